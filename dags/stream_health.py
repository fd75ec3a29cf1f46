"""Is the stream well: lag, freshness, age and memory of its workers against `settings.health`.

**When.** Every five minutes. It starts and changes nothing.

**When it fails,** the log names what is over its threshold. Lag grows: the job cannot keep up, or stands; look at
`lookalike status`, start `lookalike stream` again, give it more threads (`stream.encoder_threads`). Freshness alone:
a server does not follow the log; its `/readyz` says why. A worker too old or too large: its supervisor is gone.
"""

from datetime import timedelta

from airflow.sdk import DAG

from house.rules import HOUSE
from house.step import Step

with DAG(
    "stream_health",
    description="lag, freshness and workers of the stream against thresholds",
    doc_md=__doc__,
    schedule="*/5 * * * *",
    tags=["stream"],
    **HOUSE,
) as dag:
    Step(
        task_id="health",
        words=["stream", "health"],
        retries=1,
        execution_timeout=timedelta(minutes=3),
        doc_md="The thresholds, one by one.",
    )
