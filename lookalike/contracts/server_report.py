"""ServerReport: what one server serves and how fresh it is, a message of the topic `server-reports`."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.contracts.change import SCHEMA


class ServerReport(BaseModel):
    """Latest by key (`server`, host:port). Fields that a newer server adds are ignored: a report is only shown."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: int = Field(default=SCHEMA, alias="schema")
    server: str
    pid: int
    started_at: datetime
    at: datetime
    stopped: bool = False
    release: str | None = Field(description="version that answers")
    live: str | None = Field(description="version that the pointer names")
    refused: str | None = Field(default=None, description="version that is live and was not taken, and why")
    overlay: dict[str, Any] | None = Field(default=None, description="sizes, seen offsets, lag, problem")
    freshness: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="count, p50, p99 in seconds of the last minutes, by kind of change and `all`"
    )
    requests_per_second: float = 0.0
    search_p99_ms: float | None = None

    def encode(self) -> bytes:
        """As the message's value."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> "ServerReport | None":
        """Read a message's value; None when it is not a report that can be shown."""
        try:
            return cls.model_validate_json(value)
        except ValidationError:
            return None
