"""The registry against a real MLflow on SQLite: versions, verdicts, moves, crashes between two steps, two at once."""

import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime

import pytest

from lookalike.contracts.errors import CorruptArtifact, LookalikeError, NotFound, NotPromotable
from lookalike.contracts.manifest import MANIFEST_NAME, IndexRecipe, Manifest
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.pointer import INTENT
from lookalike.releases.registry import Registry
from lookalike.releases.release import Action, Alias

pytestmark = pytest.mark.slow


def space(weights="a"):
    return EmbeddingSpace(
        encoder="tiny", weights_sha256=weights * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=8
    )


def seal(settings, name, items=3, weights="a"):
    folder = settings.releases_root / name
    folder.mkdir(parents=True)
    manifest = Manifest(
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        space=space(weights),
        recipe=IndexRecipe(name="exact", description="all pairs", factory="Flat"),
        chosen_because="few items",
        items=items,
        table_versions={"silver": 4},
        files={},
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return folder


def verdict_of(release, passed=True):
    check = Check(name="recall@10 (exact truth)", passed=passed, observed="0.98", bar="at least 0.95")
    return Verdict(at=datetime.now(UTC), manifest_sha256=release.manifest_sha256, checks=(check,))


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """Migrations take seconds: made once, copied for each test."""
    home = tmp_path_factory.mktemp("registry")
    assert Registry(Settings(home=home)).releases() == []
    return (home / "mlflow.db").read_bytes()


@pytest.fixture
def settings(tmp_path, empty_database):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "mlflow.db").write_bytes(empty_database)
    return Settings(home=tmp_path / "var")


@pytest.fixture
def encoder(tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "encoder.json").write_text("{}")
    return folder


@pytest.fixture
def registry(settings):
    return Registry(settings)


def judged(registry, settings, encoder, name, **kinds):
    release = registry.register(seal(settings, name, **kinds), encoder, "ada")
    return registry.record_verdict(release.version, verdict_of(release), "gate")


def aliases(registry):
    found = {name: registry.alias(name) for name in Alias}
    return {name.value: release.version for name, release in found.items() if release}


def moves(registry):
    kinds = (Action.PROMOTED, Action.ROLLED_BACK)
    return [(e.action.value, e.version, e.previous, e.actor) for e in registry.history() if e.action in kinds]


def test_an_empty_registry_answers(registry):
    assert registry.live() is None and registry.releases() == [] and registry.history() == []
    with pytest.raises(NotFound, match="known: none"):
        registry.release("1")
    with pytest.raises(NotFound, match="no previous"):
        registry.rollback("ada")


def test_a_build_becomes_a_version_that_says_what_it_is(registry, settings, encoder):
    folder = seal(settings, "first", items=11)
    release = registry.register(folder, encoder, "ada")
    assert (release.version, release.items, release.recipe, release.actor) == ("1", 11, "exact", "ada")
    assert release.index_dir == folder and release.table_versions == {"silver": 4}
    assert release.encoder_dir == settings.encoders_root / space().fingerprint
    assert (release.encoder_dir / "encoder.json").is_file()
    assert release.verdict is None and aliases(registry) == {"candidate": "1"}
    assert registry.releases()[0].aliases == ("candidate",)


def test_the_same_artifact_registered_again_is_the_same_version(registry, settings, encoder):
    folder = seal(settings, "first")
    first = registry.register(folder, encoder, "ada")
    second = registry.register(seal(settings, "second", items=4), encoder, "ada")
    assert registry.register(folder, encoder, "ada").version == first.version != second.version
    assert aliases(registry) == {"candidate": first.version}
    assert [entry.version for entry in registry.history()] == ["1", "2"]


def test_an_encoder_gets_a_version_only_when_its_space_is_new(registry, settings, encoder):
    versions = [
        registry.register(seal(settings, name, weights=weights), encoder, "ada").encoder_version
        for name, weights in (("one", "a"), ("two", "a"), ("three", "d"))
    ]
    assert versions == ["1", "1", "2"]


def test_promotion_and_roll_back_move_the_pointer_and_the_ledger_tells(registry, settings, encoder):
    first, second = (judged(registry, settings, encoder, name, items=n) for n, name in enumerate("ab", 3))
    assert registry.promote(first.version, "ada").previous is None
    move = registry.promote(second.version, "grace")
    assert (move.version, move.previous, move.changed) == ("2", "1", True)
    assert aliases(registry) == {"candidate": "2", "live": "2", "previous": "1"}
    registry.rollback("ada")
    assert aliases(registry) == {"candidate": "2", "live": "1", "previous": "2"}
    assert moves(registry) == [
        ("promoted", "1", None, "ada"),
        ("promoted", "2", "1", "grace"),
        ("rolled_back", "1", "2", "ada"),
    ]
    assert [e.verdict_sha256 for e in registry.history() if e.action is Action.PROMOTED] == [
        first.verdict_sha256,
        second.verdict_sha256,
    ]
    gated = [entry for entry in registry.history() if entry.action is Action.GATED]
    assert gated[0].evidence["checks"][0]["observed"] == "0.98"


def test_promoting_what_is_live_changes_nothing(registry, settings, encoder):
    first, second = (judged(registry, settings, encoder, name, items=n) for n, name in enumerate("ab", 3))
    registry.promote(first.version, "ada")
    registry.promote(second.version, "ada")
    assert registry.promote(second.version, "ada").changed is False
    assert aliases(registry)["previous"] == "1" and len(moves(registry)) == 2


def test_a_version_without_its_proof_never_goes_live(registry, settings, encoder):
    release = registry.register(seal(settings, "first"), encoder, "ada")
    with pytest.raises(NotPromotable, match="has no verdict"):
        registry.promote(release.version, "ada")
    registry.record_verdict(release.version, verdict_of(release, passed=False), "gate")
    with pytest.raises(NotPromotable, match="did not pass"):
        registry.promote(release.version, "ada")
    other = registry.register(seal(settings, "second", items=9), encoder, "ada")
    with pytest.raises(NotPromotable, match="judge this version"):
        registry.record_verdict(release.version, verdict_of(other), "gate")
    registry.record_verdict(release.version, verdict_of(release), "gate")
    (release.index_dir / MANIFEST_NAME).write_text((other.index_dir / MANIFEST_NAME).read_text())
    with pytest.raises(CorruptArtifact, match="changed after it was registered"):
        registry.promote(release.version, "ada")
    assert registry.live() is None and moves(registry) == []


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test may catch it."""


def cut_off_at(registry, monkeypatch, method, count=1):
    """Let the client's `method` die at its count-th call from now."""
    client, calls = registry._light, []
    real = getattr(client, method)

    def dies(*arguments, **named):
        calls.append(arguments)
        if len(calls) == count:
            raise Killed
        return real(*arguments, **named)

    monkeypatch.setattr(client, method, dies)


@pytest.mark.parametrize("step", [("set_registered_model_alias", 1), ("set_registered_model_alias", 2),
                                  ("delete_registered_model_tag", 1)])  # fmt: skip
@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_move_cut_off_at_any_step_is_finished_by_repeating_it(registry, settings, encoder, monkeypatch, step, action):
    for number, name in enumerate("abc", 3):
        judged(registry, settings, encoder, name, items=number)
    for version in ("1", "2"):
        registry.promote(version, "ada")

    def move(with_registry):
        return with_registry.promote("3", "ada") if action == "promote" else with_registry.rollback("ada")

    with monkeypatch.context() as patched:
        cut_off_at(registry, patched, *step)
        with pytest.raises(Killed):
            move(registry)
    live, kind = ("3", "promoted") if action == "promote" else ("1", "rolled_back")
    again = Registry(settings)
    assert aliases(again)["live"] in ("2", live)
    move(again)
    assert aliases(again) == {"candidate": "3", "live": live, "previous": "2"}
    assert moves(again)[2:] == [(kind, live, "2", "ada")]
    assert INTENT not in again._light.get_registered_model("lookalike-index").tags


def test_two_promotions_at_once_leave_one_live_and_both_in_the_ledger(settings, registry, encoder):
    for number, name in enumerate("abc", 3):
        judged(registry, settings, encoder, name, items=number)
    registry.promote("1", "ada")
    start = threading.Barrier(2)

    def promote(version):
        own = Registry(settings)
        own.live()
        start.wait()
        own.promote(version, f"actor-{version}")

    threads = [threading.Thread(target=promote, args=(version,)) for version in "23"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = moves(registry)[1:]
    assert {version for _, version, _, _ in written} == {"2", "3"}
    assert aliases(registry)["live"] == written[-1][1] and aliases(registry)["previous"] == written[-1][2]
    assert written[0][2] == "1" and written[1][2] == written[0][1]


def test_first_use_by_two_processes_at_once_and_nothing_beside_home(tmp_path):
    program = """
        import sys
        from pathlib import Path
        from lookalike.contracts.settings import Settings
        from lookalike.releases.registry import Registry
        print(Registry(Settings(home=Path(sys.argv[1]))).live())
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "var")]
    running = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in running:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output, errors) == (0, "None\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["var"]


def test_a_registry_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(LookalikeError, match=r"registry\.tracking_uri = 'carrier-pigeon://x'"):
        Registry(Settings(home=tmp_path / "var", registry={"tracking_uri": "carrier-pigeon://x"})).live()


def test_a_release_is_asked_for_once_until_the_pointer_moves(registry, settings, encoder):
    with pytest.raises(NotFound, match="nothing is live"):
        registry.ask_for_release("full", {"items": 3}, "server a")
    for number, name in enumerate("ab", 3):
        judged(registry, settings, encoder, name, items=number)
    registry.promote("1", "ada")
    assert registry.asked() is None
    asked = registry.ask_for_release("full", {"items": 3}, "server a")
    assert (asked.action, asked.version, asked.actor) == (Action.ASKED, "1", "server a")
    assert asked.evidence == {"reason": "full", "items": 3}
    assert registry.ask_for_release("fuller", {}, "server b") == asked == Registry(settings).asked()
    lines = [entry for entry in registry.history() if entry.action is Action.ASKED]
    assert lines == [asked]
    registry.promote("2", "ada")
    assert registry.asked() is None
    assert registry.ask_for_release("full again", {}, "server b").version == "2"


def test_a_request_cut_off_before_its_line_is_finished_by_the_next(registry, settings, encoder, monkeypatch):
    judged(registry, settings, encoder, "first")
    registry.promote("1", "ada")
    with monkeypatch.context() as patched:
        patched.setattr(registry._ledger, "append", lambda entry: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            registry.ask_for_release("full", {}, "server a")
    assert [entry for entry in registry.history() if entry.action is Action.ASKED] == []
    again = registry.ask_for_release("full", {}, "server b")
    assert again.actor == "server a"
    assert [entry for entry in registry.history() if entry.action is Action.ASKED] == [again]


def test_an_incoming_encoder_is_announced_replaced_and_withdrawn(registry, settings, encoder):
    assert registry.incoming_encoder() is None
    with pytest.raises(NotFound, match="no encoder is incoming"):
        registry.withdraw_encoder("ada")
    first = registry.announce_encoder(encoder, space("a"), "ada")
    assert first == settings.encoders_root / space("a").fingerprint == registry.incoming_encoder()
    assert (first / "encoder.json").is_file()
    second = registry.announce_encoder(encoder, space("d"), "ada")
    assert Registry(settings).incoming_encoder() == second != first
    release = registry.register(seal(settings, "first", weights="d"), encoder, "ada")
    assert release.encoder_version == "2" and release.encoder_dir == second
    assert registry.withdraw_encoder("grace") == second
    assert registry.incoming_encoder() is None


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_release_in_the_announced_space_ends_the_announcement(registry, settings, encoder, by_hand):
    judged(registry, settings, encoder, "first")
    registry.promote("1", "ada")
    announced = registry.announce_encoder(encoder, space("d"), "ada")
    judged(registry, settings, encoder, "again", items=4)
    registry.promote("2", "ada")
    assert registry.incoming_encoder() == announced
    judged(registry, settings, encoder, "new space", weights="d")
    if by_hand:
        registry._client.set_registered_model_alias(registry._index_model, "live", "3")
        assert registry.incoming_encoder() == announced
        registry.note_move("a server")
    else:
        registry.promote("3", "ada")
    assert registry.incoming_encoder() is None
    registry.rollback("ada")
    assert (registry.live().version, registry.incoming_encoder()) == ("2", None)
