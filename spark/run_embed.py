"""For spark-submit: `spark-submit spark/run_embed.py`, with the settings of every entry point."""


def main() -> None:
    """Embed what has no vector, in the space of every encoder in use."""
    from lookalike.contracts.progress import LogProgress
    from lookalike.contracts.settings import load_settings
    from lookalike.releases.encoder_in_use import with_encoder
    from spark.embed import embed
    from spark.embed_spaces import encoders_in_use
    from spark.session import start

    settings = load_settings()
    for path in encoders_in_use(settings):
        embed(start(settings, "lookalike-embed"), with_encoder(settings, path), LogProgress())


if __name__ == "__main__":
    main()
