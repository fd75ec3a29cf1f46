"""The contact sheet of a comparison where a person looks: in the question, and as a button of the task `compare`.

Addresses are relative, because Airflow's pages name their own base: they hold below any path prefix. The route behind
them is `plugins/lookalike_pictures.py`; without it, a question still names the file and shows every figure.
"""

import re
from typing import Any

from airflow.sdk.bases.operatorlink import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from house.markdown import as_markdown

ADDRESS = "lookalike/compare/{run}/{name}"
# What the browser shows in place of a picture that it does not get.
INSTEAD = "The contact sheet cannot be shown here; its file is the one named above."
_PATH = re.compile(r"/compare/(?P<run>[\w-]+)/(?P<name>[\w-]+\.png)$")


def sheet_address(document: Any) -> str | None:
    """Where Airflow shows the sheet that an answer of `lookalike compare` names; None where it names none."""
    found = _PATH.search(str(document.get("sheet") or "")) if isinstance(document, dict) else None
    return ADDRESS.format(**found.groupdict()) if found else None


def comparison(document: Any) -> str:
    """An answer of `lookalike compare` for the person who decides: facts, picture, figures."""
    address = sheet_address(document)
    if address is None:
        return as_markdown(document)
    facts = {key: value for key, value in document.items() if not isinstance(value, list | dict)}
    figures = {key: value for key, value in document.items() if key not in facts}
    picture = f"[![{INSTEAD}]({address})]({address})"
    return "\n\n".join([as_markdown(facts), "**contact sheet** (opens in full size)", picture, as_markdown(figures)])


class ContactSheetLink(BaseOperatorLink):
    """A button on the page of the task, for the runs in which nobody is asked."""

    name = "Contact sheet"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Address of the picture; nothing when the task left no answer."""
        return sheet_address(XCom.get_value(ti_key=ti_key, key="return_value")) or ""
