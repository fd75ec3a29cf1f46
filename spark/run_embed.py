"""For spark-submit: `spark-submit spark/run_embed.py`, with the settings of every entry point."""


def main() -> None:
    """Embed what has no vector in the configured encoder's space."""
    from lookalike.contracts.progress import LogProgress
    from lookalike.contracts.settings import load_settings
    from spark.embed import embed
    from spark.session import start

    settings = load_settings()
    embed(start(settings, "lookalike-embed"), settings, LogProgress())


if __name__ == "__main__":
    main()
