"""Opens the log that the settings name."""

from lookalike.contracts.settings import Settings
from lookalike.storage.log.port import Log
from lookalike.storage.log.sqlite import SqliteLog


def open_log(settings: Settings) -> Log:
    """The embedded log (made when there is none) or Kafka, by `log.kind`. Close it when done.

    Raises SettingsError when the log that is there has another number of partitions, LogUnavailable, LogDamaged.
    """
    if settings.log.kind == "kafka":
        from lookalike.storage.log.kafka import KafkaLog

        return KafkaLog(settings)
    return SqliteLog(settings.log_path, settings.log.partitions, settings.log.retention_hours)


def tidy_log(log: Log) -> int:
    """Expire and compact what the embedded log no longer needs; the number of records deleted. Kafka does it itself."""
    return log.tidy() if isinstance(log, SqliteLog) else 0
