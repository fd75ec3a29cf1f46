"""Embedding space: the name of all that must agree before two vectors may be compared.

Its fingerprint is stamped on every vector, index and release. A mismatch is refused, never warned about:
vectors of two encoders look alike to every tool and give quietly wrong neighbours.
"""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lookalike.contracts.errors import SpaceMismatch

Sha256 = str


class EmbeddingSpace(BaseModel):
    """Identity of a vector space. Two vectors are comparable if and only if the fingerprints are equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str = Field(min_length=1, description="name of the encoder, for people; e.g. lookalike-mini")
    weights_sha256: Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
    preprocessing_sha256: Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
    tokenizer_sha256: Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
    dim: int = Field(ge=1, le=8192)
    dtype: Literal["float32"] = "float32"
    metric: Literal["inner_product"] = "inner_product"
    normalisation: Literal["l2"] = "l2"

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the sha256 of the canonical JSON of all fields."""
        canonical = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def require(self, other_fingerprint: str, where: str) -> None:
        """Raise SpaceMismatch unless `other_fingerprint` is this space's; `where` names the other thing."""
        if other_fingerprint != self.fingerprint:
            raise SpaceMismatch(
                f"{where} belongs to embedding space {other_fingerprint!r}, but {self.encoder} is "
                f"{self.fingerprint!r}. Vectors of two spaces are never mixed: embed again with this encoder "
                f"(`lookalike embed`) or open the release with the encoder it was built with."
            )
