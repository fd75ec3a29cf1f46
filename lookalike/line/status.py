"""What is there and what is due: tables, encoder space, missing vectors, releases. Starts no Spark and no server."""

from dataclasses import dataclass

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, REFUSED, SILVER, TableContract
from lookalike.line.releases import unexplained_live
from lookalike.line.reports import server_rows
from lookalike.line.snapshots import all_snapshots
from lookalike.releases.encoder_in_use import encoder_in_use
from lookalike.releases.proof import require_proof
from lookalike.releases.registry import Registry
from lookalike.releases.release import Alias, Release
from lookalike.storage.delta import DeltaTables


@dataclass(frozen=True)
class Status:
    """Rows (what, now) for a table, and one line."""

    rows: tuple[tuple[str, str], ...]
    line: str


def _table_row(tables: DeltaTables, contract: TableContract, where: str | None = None) -> tuple[str, str]:
    if not tables.exists(contract.name):
        return contract.name, "no table yet"
    rows = tables.count(contract, where)
    return contract.name, f"{rows:,} rows, Delta version {tables.version(contract.name)}"


def _stream_rows(settings: Settings, registry: Registry) -> list[tuple[str, str]]:
    rows = []
    incoming, asked = registry.incoming_encoder(), registry.asked()
    if incoming is not None:
        rows.append(("incoming encoder", incoming.name))
    if asked is not None:
        reason = asked.evidence.get("reason", "")
        rows.append(("release asked for", f"{asked.at:%Y-%m-%d %H:%M:%S} UTC by {asked.actor}: {reason}"))
    try:
        rows += server_rows(settings)
    except LookalikeError as error:
        rows.append(("servers", f"not known: {error}"))
    return rows


def _release_cell(alias: Alias, release: Release | None) -> str:
    if release is None:
        return "none"
    said = f"release {release.version}, {release.items:,} items"
    if alias is Alias.CANDIDATE:
        decision = release.decision
        return f"{said}, {decision.what} by {decision.actor}" if decision is not None else said
    try:
        require_proof(release)
    except LookalikeError as error:
        return f"{said}; SERVERS REFUSE IT: {error}"
    return said


def _encoder_cell(space: EmbeddingSpace, live: Release | None) -> str:
    said = f"{space.encoder}, space {space.fingerprint}, {space.dim} dims"
    if live is None or live.space == space.fingerprint:
        return said
    return f"{said}: by the setting encoder.path; live is in space {live.space}"


def status(settings: Settings) -> Status:
    """Read everything that says how the system stands."""
    from models.encoders import open_encoder
    from spark.embed import pending

    tables = DeltaTables(settings.tables_root)
    space = open_encoder(encoder_in_use(settings), device="cpu", threads=1).space
    snapshots = all_snapshots(settings)
    registry = Registry(settings)
    aliases = {alias: registry.alias(alias) for alias in Alias}
    rows = [
        ("home", str(settings.home.absolute())),
        ("newest snapshot", snapshots[-1].name if snapshots else "none"),
        _table_row(tables, SILVER, "NOT deleted"),
        _table_row(tables, EMBEDDINGS, f"space = '{space.fingerprint}'"),
        _table_row(tables, REFUSED),
        ("encoder", _encoder_cell(space, aliases[Alias.LIVE])),
    ]
    due = pending(settings, space) if tables.exists(SILVER.name) else 0
    rows.append(("vectors missing", f"{due:,}"))
    rows += [(alias.value, _release_cell(alias, release)) for alias, release in aliases.items()]
    unexplained = unexplained_live(settings)
    if unexplained is not None:
        rows.append(("moved by hand", f"live names version {unexplained}; a server or the next move writes it down"))
    rows += _stream_rows(settings, registry)
    live = aliases[Alias.LIVE]
    return Status(tuple(rows), f"live: {live.version if live else 'none'}; vectors missing: {due:,}")
