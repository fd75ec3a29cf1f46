"""Runs one pipeline over a home on a named runner until all that is there is dealt with. A process of its own, because
a runner starts servers and threads.

    python run_pipeline.py HOME PIPELINE RUNNER [--key=value …]
"""

import sys
import threading
import time

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam.local_runner import LocalRunner
from beam.options import add_pipeline, runner_options
from beam.pipelines import READS, drain_file
from lookalike.contracts.settings import load_settings
from lookalike.storage.log.opening import open_log

SECONDS = 150


def drain_when_done(settings, name: str) -> None:
    log = open_log(settings)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and any(
        log.committed(name, topic).get(partition, 0) < log.high_watermark(topic, partition)
        for topic in READS[name]
        for partition in range(log.partitions)
    ):
        time.sleep(0.1)
    drain_file(settings, name).touch()


def main() -> None:
    home, name, runner, *extra = sys.argv[1:]
    settings = load_settings(home=home, stream={"archive_seconds": 0.2, "retry_seconds": 0.2, "retry_attempts": 2})
    drain_file(settings, name).parent.mkdir(parents=True, exist_ok=True)
    drain_file(settings, name).unlink(missing_ok=True)
    if runner == "local":
        pipeline = apache_beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(["--streaming"]))
    else:
        pipeline = apache_beam.Pipeline(options=runner_options(runner, extra))
    add_pipeline(name, pipeline, settings)
    threading.Thread(target=drain_when_done, args=(settings, name), daemon=True).start()
    result = pipeline.run()
    result.wait_until_finish()
    assert result.state == "DONE", result.state


if __name__ == "__main__":
    main()
