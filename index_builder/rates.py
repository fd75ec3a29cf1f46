"""Rates: what one core of a machine takes for each thing that a search or a build does, measured there.

`recipes/rates.json` has those of one named machine; `bench/plan_rates.py` measures and writes those of another.
"""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.contracts.errors import SettingsError

RATES_NAME = "rates.json"


class Rates(BaseModel):
    """Of one core; `ns`, `us` and `ms` tell the unit. All are measured one at a time, with everything in memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str = Field(description="where, when and with which command they were measured")
    cores: int = Field(ge=1, description="that a build may use")
    process_bytes: int = Field(ge=0, description="of a process that has opened an index, the index apart")

    query_us: float = Field(gt=0, description="one search, whatever it looks at")
    compare_ns: float = Field(gt=0, description="one dimension of a list centre compared with a query")
    scan_ns: float = Field(gt=0, description="one dimension of a vector compared, of many more than a cache holds")
    step_ns: float = Field(gt=0, description="one dimension, of the vectors that a step of a graph walk looks at")
    list_us: float = Field(gt=0, description="one list begun")
    code_ns: float = Field(gt=0, description="one axis of a code that is scanned")
    gather_ns: float = Field(gt=0, description="one dimension of a list centre compared that others are not beside")
    candidate_us: float = Field(gt=0, description="one candidate's finer code read, decoded and compared")
    mapped_us: float = Field(gt=0, description="more for a candidate whose page the process had not mapped yet")
    cold_us: float = Field(gt=0, description="more for a search whose finer codes are on disk")
    cold_candidate_us: float = Field(gt=0, description="more for each of its candidates")

    product_ns: float = Field(gt=0, description="one multiplication and addition in a product of large matrices")
    look_ns: float = Field(gt=0, description="one centre of a group looked at for an item's own list, but its product")
    code_us: float = Field(gt=0, description="one axis of an item coded with four bits")
    finer_ns: float = Field(gt=0, description="one axis of an item coded with eight bits")
    insert_ns: float = Field(gt=0, description="one dimension of a vector put into a graph of a million")
    source_us: float = Field(gt=0, description="one vector read, checked and put in order, its columns too")
    row_us: float = Field(gt=0, description="one item's columns copied into the index and sorted into sets")
    byte_ns: float = Field(gt=0, description="one byte of an index's files joined, written and summed")


@cache
def default_rates() -> Rates:
    """Those that come with this package."""
    return Rates.model_validate_json((files("index_builder") / "recipes" / RATES_NAME).read_text())


def read_rates(path: Path) -> Rates:
    """Those in a file that `bench/plan_rates.py` wrote. Raises SettingsError that names what is wrong with it."""
    try:
        return Rates.model_validate(json.loads(path.read_text()))
    except OSError as error:
        raise SettingsError(f"rates {path}: {error.strerror}; python bench/plan_rates.py writes such a file") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'rates'}: {each['msg']}" for each in error.errors())
        raise SettingsError(f"rates {path}: {wrong}; python bench/plan_rates.py writes such a file") from error
    except ValueError as error:
        raise SettingsError(
            f"rates {path}: not JSON ({error}); python bench/plan_rates.py writes such a file"
        ) from error
