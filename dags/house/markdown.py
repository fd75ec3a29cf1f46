"""Answers of verbs as Markdown, for people who read them in Airflow."""

from collections.abc import Sequence
from typing import Any


def as_markdown(document: Any) -> str:
    """An answer of a verb for people: single values as a list, lists of records as tables."""
    if not isinstance(document, dict):
        return f"- {document}"
    plain = {key: value for key, value in document.items() if not isinstance(value, list | dict)}
    blocks = ["\n".join(f"- **{_words(key)}**: {_cell(value)}" for key, value in plain.items())]
    for key, value in document.items():
        if isinstance(value, dict) and value:
            blocks.append(f"**{_words(key)}**\n\n{as_markdown(value)}")
        elif isinstance(value, list) and value:
            blocks.append(f"**{_words(key)}**\n\n{_table(value) if isinstance(value[0], dict) else _lines(value)}")
    return "\n\n".join(block for block in blocks if block)


def _table(rows: Sequence[Any]) -> str:
    columns = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    head = [f"| {' | '.join(_words(column) for column in columns)} |", "|" + " --- |" * len(columns)]
    body = [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows if isinstance(row, dict)]
    return "\n".join(head + body)


def _lines(values: Sequence[Any]) -> str:
    return "\n".join(f"- {_cell(value)}" for value in values)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _words(key: str) -> str:
    return key.replace("_", " ")
