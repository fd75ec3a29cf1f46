"""Who may send changes: bearers of a key whose sha256 is in the settings. The keys themselves are nowhere here."""

import hashlib
import hmac

from fastapi import Request

from lookalike.contracts.settings import Settings
from lookalike.serving.problems import NoKey, NotAllowed

SCHEME = "adminKey"
SECURITY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "a key of `lookalike keys new`, of which serving.admin_key_hashes has the sha256",
}


def require_admin(request: Request, settings: Settings) -> None:
    """Raises NoKey (none sent) or NotAllowed (a wrong one, or no key may do this here)."""
    hashes = settings.serving.admin_key_hashes
    if not hashes:
        raise NotAllowed(
            "this server takes no changes: serving.admin_key_hashes is empty. `lookalike keys new` makes a key and "
            "says what to put there"
        )
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise NoKey("send the header `Authorization: Bearer KEY` with a key that may send changes")
    given = hashlib.sha256(key.strip().encode()).hexdigest()
    # Every hash is compared, each in constant time: the time taken tells nothing.
    if sum(hmac.compare_digest(given, each.strip().lower()) for each in hashes) == 0:
        raise NotAllowed("the key is none of those that may send changes here")
