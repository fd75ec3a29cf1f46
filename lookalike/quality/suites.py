"""Suites of Great Expectations judged over blocks of rows, one result and one page for all; no other file imports it.

The pandas engine takes about half a kilobyte of memory per row and some seconds of start, whatever the dimension: so
blocks of bounded size, whose results are summed. An expectation on the number of rows judges the sum.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookalike.storage.atomic import new_directory

_EXAMPLES = 3
_COUNTS = ("element_count", "unexpected_count", "missing_count")
_LISTS = ("partial_unexpected_list", "partial_unexpected_index_list")
_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES}


def expectation_library() -> Any:
    """The built-in expectations, whose names the package does not declare for type checkers."""
    return import_module("great_expectations.expectations")


@dataclass(frozen=True)
class Suite:
    """Expectations, each with a description of its own: on every row by itself, and one on the number of all rows."""

    name: str
    of_rows: Sequence[Any]
    of_count: Any | None = None


@dataclass(frozen=True)
class SuiteRun:
    """Judges one suite after the other in one context."""

    context: Any
    name: str

    def judge(self, suite: Suite, blocks: Iterable[pa.Table]) -> list[dict[str, Any]]:
        """Outcome of each expectation over all blocks, of which there is one at least, as plain values."""
        import great_expectations as gx
        import pandas as pd

        def validated(frame: Any, expectations: Sequence[Any]) -> Any:
            asked = gx.ExpectationSuite(name=suite.name, expectations=list(expectations))
            return definition.get_batch({"dataframe": frame}).validate(asked, result_format=_FORMAT)

        source = self.context.data_sources.add_pandas(suite.name)
        definition = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("all rows")
        rows, reports = 0, []
        for block in blocks:
            frame = block.to_pandas().set_index(pd.RangeIndex(rows, rows + block.num_rows))
            reports.append(validated(frame, suite.of_rows))
            rows += block.num_rows
        of_count = [] if suite.of_count is None else [suite.of_count]
        counted = validated(pd.DataFrame(index=pd.RangeIndex(rows)), of_count).results if of_count else []
        results = [*counted, *(_summed(parts) for parts in _by_expectation(suite, reports))]
        self.context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=[*of_count, *suite.of_rows]))
        self._keep(suite.name, reports[0], results)
        return [_outcome(suite.name, single) for single in results]

    def _keep(self, name: str, report: Any, results: Sequence[Any]) -> None:
        """Store the results for the data docs, as a report on all rows."""
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        run, passed = RunIdentifier(run_name=self.name), sum(bool(single.success) for single in results)
        report.results, report.success = list(results), passed == len(results)
        report.statistics = {
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results),
        }
        report.meta |= {"run_id": run, "validation_time": run.run_time}
        report.meta["batch_markers"].pop("pandas_data_fingerprint", None)  # is of the first block alone
        place = ValidationResultIdentifier(ExpectationSuiteIdentifier(name), run, report.batch_id)
        self.context.validation_results_store.store_validation_results(report, place)


@contextmanager
def suite_run(docs: Path, name: str) -> Iterator[SuiteRun]:
    """A run in a context of its own; its data docs appear in `docs` whole or not at all."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    with new_directory(docs) as folder:
        context.add_data_docs_site(
            "report",
            {
                "class_name": "SiteBuilder",
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
            },
        )
        yield SuiteRun(context, name)
        context.build_data_docs(site_names=["report"])


def _by_expectation(suite: Suite, reports: Sequence[Any]) -> Iterator[list[Any]]:
    """Results of each expectation in all reports; the engine puts those that it could not check first."""
    for asked in suite.of_rows:
        yield [
            single
            for report in reports
            for single in report.results
            if single.expectation_config.description == asked.description
        ]


def _summed(parts: Sequence[Any]) -> Any:
    """One result of several blocks; one that could not be checked speaks for all."""
    first = next((part for part in parts if not part.result), parts[0])
    if len(parts) == 1 or not first.result:
        return first
    said = {name: sum(part.result[name] for part in parts) for name in _COUNTS if name in first.result}
    for name in _LISTS:
        if name in first.result:
            said[name] = [value for part in parts for value in part.result[name]][:_EXAMPLES]
    if "partial_unexpected_counts" in first.result:
        met = Counter(said["partial_unexpected_list"])
        said["partial_unexpected_counts"] = [{"value": value, "count": n} for value, n in met.most_common()]
    first.success, first.result = all(part.success for part in parts), first.result | said | _shares(first.result, said)
    return first


def _shares(names: Mapping[str, Any], counts: Mapping[str, Any]) -> dict[str, float | None]:
    """The percentages of a result, of those `names`, from its counts."""
    rows, unexpected, missing = counts["element_count"], counts["unexpected_count"], counts.get("missing_count", 0)
    of = {
        "unexpected_percent": (unexpected, rows - missing),
        "unexpected_percent_nonmissing": (unexpected, rows - missing),
        "unexpected_percent_total": (unexpected, rows),
        "missing_percent": (missing, rows),
    }
    return {name: 100 * part / whole if whole else None for name, (part, whole) in of.items() if name in names}


def _outcome(suite: str, single: Any) -> dict[str, Any]:
    result: Mapping[str, Any] = single.result or {}
    said = {
        "suite": suite,
        "expectation": single.expectation_config.description or single.expectation_config.type,
        "passed": bool(single.success),
    }
    if "observed_value" in result and result["observed_value"] is not None:
        said["observed"] = str(result["observed_value"])
    if "unexpected_count" in result:
        said["rows"], said["unexpected"] = int(result.get("element_count", 0)), int(result["unexpected_count"])
        said["examples"] = [str(value)[:200] for value in result.get("partial_unexpected_list", [])]
    if not result:
        said["observed"] = "could not be checked: " + _reason(single.exception_info or {})
    return said


def _reason(info: Mapping[str, Any]) -> str:
    if "exception_message" in info:
        return str(info["exception_message"])[:300]
    messages = (str(value.get("exception_message", "")) for value in info.values() if isinstance(value, Mapping))
    return next((message[:300] for message in messages if message), "no reason given")
