"""For spark-submit: `spark-submit spark/run_fold.py`, with the settings of every entry point."""


def main() -> None:
    """Fold what the stream archived into SILVER and EMBEDDINGS, if anything waits."""
    from lookalike.contracts.progress import LogProgress
    from lookalike.contracts.settings import load_settings
    from spark.fold import fold, pending
    from spark.session import start

    settings = load_settings()
    if pending(settings):
        fold(start(settings, "lookalike-fold"), settings, LogProgress())


if __name__ == "__main__":
    main()
