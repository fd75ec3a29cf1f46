"""For spark-submit: `spark-submit spark/run_ingest.py SNAPSHOT_FOLDER`, with the settings of every entry point."""

import sys
from pathlib import Path


def main() -> None:
    """Ingest the snapshot folder named on the command line, unless it is in the tables already."""
    from lookalike.contracts.progress import LogProgress
    from lookalike.contracts.settings import load_settings
    from spark.ingest import ingest, is_done
    from spark.session import start

    if len(sys.argv) != 2:
        sys.exit("usage: spark-submit spark/run_ingest.py SNAPSHOT_FOLDER")
    settings, folder = load_settings(), Path(sys.argv[1])
    if not is_done(settings, folder):
        ingest(start(settings, "lookalike-ingest"), settings, folder, LogProgress())


if __name__ == "__main__":
    main()
