"""One Spark session for the whole line: Delta, a start that suits its machine, GPUs through Spark's own scheduler.

On a local master the JVM gets the C1 compiler and the serial collector (half the start on two cores) and everything
it writes lies below HOME. A value in `settings.spark.conf` wins over ours, and what spark-submit gave wins over both.
"""

import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.contracts.errors import MissingPrerequisite, SettingsError
from lookalike.contracts.settings import Settings
from lookalike.storage.atomic import write_bytes
from spark.jars import delta_jars
from spark.java import find_java

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

LOCAL_JVM_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
LOG_FILE = "log4j2.properties"
LOG_LINES = """rootLogger.level = error
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} spark %p %c{1}: %m%n%ex
"""
ARROW_BATCH_ROWS = 4_096
ARROW_BATCH_BYTES = 16 * 2**20


def is_local(settings: Settings) -> bool:
    """Whether driver and executors are one JVM (`local`, `local[N]`; `local-cluster[...]` has real executors)."""
    return settings.spark.master.startswith("local") and not settings.spark.master.startswith("local-cluster")


def gpu_conf(settings: Settings) -> dict[str, str]:
    """What executors must own so that `gpu_profile` can be granted; empty without GPUs and on a local master.

    On `local[N]` a task that asks for a GPU is never scheduled and the job hangs without a word; there the encoder
    finds the device by itself.
    """
    if settings.spark.gpus_per_task <= 0 or is_local(settings):
        return {}
    return {"spark.executor.resource.gpu.amount": str(math.ceil(settings.spark.gpus_per_task))}


def gpu_profile(settings: Settings) -> "ResourceProfile | None":
    """Task resources of the embedding stage alone, so that ingest does not occupy GPUs; None without GPUs."""
    if not gpu_conf(settings):
        return None
    amount = settings.spark.gpus_per_task
    if amount > 1 and amount != int(amount):
        raise SettingsError(f"spark.gpus_per_task = {amount} is not allowed: a share below 1, or a whole number")
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(1).resource("gpu", amount)).build


def session_conf(settings: Settings, jars: list[Path]) -> dict[str, str]:
    """The whole configuration as Spark takes it. `jars` may be empty where the cluster's image has Delta already."""
    conf = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_BATCH_ROWS),
        "spark.sql.execution.arrow.maxBytesPerBatch": str(ARROW_BATCH_BYTES),
        "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
        "spark.python.worker.reuse": "true",
        "spark.driver.memory": settings.spark.driver_memory,
        **gpu_conf(settings),
    }
    if jars:
        conf["spark.jars"] = ",".join(str(path) for path in jars)
    if is_local(settings):
        scratch = settings.home.absolute() / "spark"
        log_option = f"-Dlog4j2.configurationFile={(scratch / LOG_FILE).as_uri()}"
        conf |= {
            "spark.driver.extraJavaOptions": f"{LOCAL_JVM_OPTIONS} {log_option}",
            "spark.databricks.delta.snapshotPartitions": "2",
            # Nearly all time of a local run goes into planning and compiling many small queries: a snapshot of 43 rows
            # took 21 s of JVM time with these three at their defaults and 10 s like this.
            "spark.sql.adaptive.enabled": "false",
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.local.dir": str(scratch / "local"),
            "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        }
    return conf | settings.spark.conf


def start(settings: Settings, app_name: str = "lookalike") -> "SparkSession":
    """The running session, or a new one. Raises MissingPrerequisite without PySpark, Java or the Delta JARs."""
    if importlib.util.find_spec("pyspark") is None:
        raise MissingPrerequisite("PySpark is not installed: `pip install 'lookalike[spark]'`")
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        SparkContext._ensure_initialized()
    else:
        _prepare_environment(settings)
    conf = SparkConf()
    for key, value in session_conf(settings, _jars(settings, submitted)).items():
        if not conf.contains(key):
            conf.set(key, value)
    if not conf.contains("spark.master"):
        conf.setMaster(settings.spark.master)
    session = SparkSession.builder.config(conf=conf).appName(app_name).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def stop() -> None:
    """End the running session and its JVM's work, if there is one."""
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        running.stop()


def _jars(settings: Settings, submitted: bool) -> list[Path]:
    """None where the user names JARs himself, or where spark-submit has put Delta on the class path."""
    given = {"spark.jars", "spark.jars.packages"} & settings.spark.conf.keys()
    return [] if given or submitted else delta_jars(settings)


def _prepare_environment(settings: Settings) -> None:
    """What the JVM and the Python workers read from the environment; set just before they start."""
    os.environ["JAVA_HOME"] = str(find_java(settings.home.absolute() / "java").home)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spec = importlib.util.find_spec("pyspark")
    if spec is not None and spec.origin is not None:
        os.environ.setdefault("SPARK_HOME", str(Path(spec.origin).parent))
    if is_local(settings):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        write_bytes(settings.home.absolute() / "spark" / LOG_FILE, LOG_LINES.encode())
