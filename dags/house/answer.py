"""What a finished command means for its task: an answer, a failure for good, or one that another try may mend.

Exit codes of `lookalike`: 0 done, 1 a check failed, 2 wrong use or a missing thing; all others are faults.
"""

import json
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

EXIT_CHECK_FAILED, EXIT_USER_ERROR, EXIT_NOT_STARTED = 1, 2, 127
SIGNAL_BASE = 128
SAID_BY_US = "lookalike: "
TRACEBACK = "Traceback (most recent call last):"
NO_MODULE = "No module named lookalike"


def last_words(lines: Sequence[str]) -> str:
    """The message of the command: from its last line that begins with `lookalike: ` on, else its last line."""
    spoken = [line.rstrip() for line in lines if line.strip()]
    for index in range(len(spoken) - 1, -1, -1):
        if spoken[index].startswith(SAID_BY_US):
            return "\n".join([spoken[index].removeprefix(SAID_BY_US), *spoken[index + 1 :]])
    return spoken[-1] if spoken else "it said nothing"


def failed_checks(document: Any) -> Iterator[str]:
    """Every check of an answer that says `passed: false`, with what was observed and what was demanded."""
    if isinstance(document, dict):
        if document.get("passed") is False and "name" in document:
            details = [f"{key} {document[key]}" for key in ("observed", "bar") if document.get(key) is not None]
            yield f"{document['name']} ({', '.join(details)})" if details else str(document["name"])
            return
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from failed_checks(part)


def read_document(text: str, command: str) -> Any:
    """The JSON document of stdout; None where the command wrote nothing."""
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise AirflowFailException(
            f"`{command}` ended well but its answer is not one JSON document ({error}): {text[:500]!r}"
        ) from error


def _check_failed(command: str, text: str, lines: Sequence[str]) -> AirflowException:
    if any(TRACEBACK in line for line in lines):
        # Python ends with 1 on any fault; a check that failed answers in order and shows no traceback.
        return AirflowException(f"`{command}` broke off: {last_words(lines)}")
    if lines and NO_MODULE in lines[-1]:
        return AirflowFailException(f"the program is missing here: {lines[-1].strip()}. Install the wheel of lookalike")
    try:
        names = list(failed_checks(json.loads(text)))
    except ValueError:
        names = []
    return AirflowFailException(f"`{command}`: a check failed: {'; '.join(names) or last_words(lines)}")


def require_success(code: int, command: str, text: str, lines: Sequence[str]) -> None:
    """Return when `code` is 0, else raise with the command's own last words.

    AirflowFailException (no retry) for a failed check, wrong use or a missing thing; AirflowException (retried as the
    task says) for all others.
    """
    if code == 0:
        return
    if code == EXIT_CHECK_FAILED:
        raise _check_failed(command, text, lines)
    if code in (EXIT_USER_ERROR, EXIT_NOT_STARTED):
        raise AirflowFailException(f"`{command}`: {last_words(lines)}")
    if code > SIGNAL_BASE:
        name = signal.Signals(code - SIGNAL_BASE).name if code - SIGNAL_BASE in set(signal.Signals) else code
        hint = "; was memory short?" if code - SIGNAL_BASE == signal.SIGKILL else ""
        raise AirflowException(f"`{command}` was ended by {name}{hint} Its last words: {last_words(lines)}")
    raise AirflowException(f"`{command}` ended with {code}: {last_words(lines)}")
