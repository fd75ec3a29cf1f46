"""Verdict: what the gate measured on a candidate, check by check, and whether it may go live."""

import hashlib
import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Check(BaseModel):
    """One gate check. `bar` is what was demanded, in words a person can read beside `observed`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    observed: str
    bar: str
    detail: str = ""
    evidence: dict[str, Any] = Field(default_factory=dict)


class Verdict(BaseModel):
    """All checks of one candidate. Bound to the artifact by `manifest_sha256`, so it cannot be moved to another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    manifest_sha256: str
    compared_with: str | None = Field(default=None, description="registry version that was live, if any")
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True when there is at least one check and none failed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON, kept in the ledger."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
