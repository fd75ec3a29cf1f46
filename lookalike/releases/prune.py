"""Removal of a release that nothing points at: a line in the ledger, its version in the registry, its folders.

In this order, so that a process which dies in between leaves either a version that is removed next time, or folders
that the ledger names as removed. The number of a removed version is never given again.
"""

import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lookalike.contracts.settings import Settings
from lookalike.releases.ledger import Ledger
from lookalike.releases.mlflow_models import ABSENT, ABSENT_ALIAS, MlflowModels
from lookalike.releases.release import Action, LedgerEntry, Release
from lookalike.storage.delta import DeltaTables

VERDICTS_SUFFIX = ".verdicts"
LEAVING_PREFIX = ".removed-"
"""Of a folder that is being deleted: whoever finds one may finish that."""


class ReleaseRemover(MlflowModels):
    """Removes versions of the registered index. Their encoders stay: other releases may be of the same space."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._model = settings.registry.index_model
        self._ledger = Ledger(DeltaTables(settings.tables_root))

    def remove(self, release: Release, evidence: Mapping[str, Any], actor: str) -> bool:
        """Take the version out of ledger and registry; False when an alias names it by now, and nothing is done.

        Its folders are left to `remove_folder`.
        """
        with self._one_at_a_time():
            model = self._absent_is_none(ABSENT, "get_registered_model", self._model)
            if model is None or release.version in {str(version) for version in model.aliases.values()}:
                return False
            if release.version not in self._removed():
                told = {"index_dir": str(release.index_dir), "manifest_sha256": release.manifest_sha256, **evidence}
                self._ledger.append(
                    LedgerEntry(datetime.now(UTC), Action.REMOVED, release.version, actor, evidence=told)
                )
            self._absent_is_none(ABSENT_ALIAS, "delete_model_version", self._model, release.version)
        return True

    def removed_folders(self) -> set[Path]:
        """Artifact folders of all versions that the ledger calls removed."""
        return {Path(entry.evidence["index_dir"]) for entry in self._ledger.entries() if _is_removal(entry)}

    def _removed(self) -> set[str]:
        return {entry.version for entry in self._ledger.entries() if _is_removal(entry)}


def verdicts_owner(folder: Path) -> str:
    """Name of the artifact that a folder beside the releases belongs to: its verdicts', or its own."""
    return folder.name.removesuffix(VERDICTS_SUFFIX)


def remove_folder(folder: Path) -> None:
    """Delete a folder: under its own name it is there whole or not at all."""
    if not folder.is_dir():
        return
    if not folder.name.startswith(LEAVING_PREFIX):
        leaving = folder.with_name(f"{LEAVING_PREFIX}{folder.name}-{secrets.token_hex(4)}")
        folder = folder.rename(leaving)
    shutil.rmtree(folder)


def _is_removal(entry: LedgerEntry) -> bool:
    return entry.action is Action.REMOVED and "index_dir" in entry.evidence
