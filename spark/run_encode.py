"""For spark-submit: `spark-submit spark/run_encode.py BUILD`, with the settings of every entry point."""

import json
import sys


def main() -> None:
    """Encode the shards of a trained build that are missing."""
    from index_builder.merge import missing_shards
    from index_builder.pin import Pin
    from lookalike.contracts.progress import LogProgress
    from lookalike.contracts.settings import load_settings
    from spark.encode_shards import encode_shards
    from spark.session import start

    settings = load_settings()
    work = settings.builds_root / sys.argv[1]
    written = json.loads((work / "pin.json").read_text())
    pin = Pin.model_validate({name: value for name, value in written.items() if name in Pin.model_fields})
    session = start(settings, "lookalike-encode")
    encode_shards(session, settings, work, pin, missing_shards(work, pin), LogProgress())


if __name__ == "__main__":
    main()
