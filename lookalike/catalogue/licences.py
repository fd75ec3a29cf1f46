"""Which licences let anyone use, change and sell products with the pictures: not NC, not ND, not GPL."""

import re

_CONDITION = re.compile(r"\b(NC|ND|[AL]?GPL)\b|non-?commercial|no-?deriv", re.IGNORECASE)


def is_free(spdx: str | None, title: str | None) -> bool:
    """True when a licence is stated and neither its SPDX name nor its title has an NC, ND or GPL condition."""
    stated = f"{spdx or ''} {title or ''}".strip()
    return bool(stated) and _CONDITION.search(stated) is None
