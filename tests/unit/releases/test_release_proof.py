"""Each way in which a release can lack its proof is refused, and named."""

import json
from dataclasses import replace

import pytest

from lookalike.contracts.errors import CorruptArtifact, NotPromotable
from lookalike.contracts.manifest import MANIFEST_NAME
from lookalike.releases.proof import require_proof
from lookalike.releases.verdict_file import read_verdict, verdict_path, write_verdict


def test_a_passed_verdict_of_these_files_is_proof(release, passed):
    write_verdict(release.index_dir, passed)
    assert require_proof(release) == passed


def test_the_verdict_lies_outside_the_sealed_folder(release, passed):
    before = sorted(release.index_dir.rglob("*"))
    path = write_verdict(release.index_dir, passed)
    assert sorted(release.index_dir.rglob("*")) == before
    assert path.is_file() and not path.is_relative_to(release.index_dir)


def test_evidence_that_is_not_a_number_survives_the_file(release, passed):
    check = passed.checks[0].model_copy(update={"passed": False, "evidence": {"norm": float("nan"), "n": (1, 2.5)}})
    failed = passed.model_copy(update={"checks": (check,)})
    write_verdict(release.index_dir, failed)
    assert read_verdict(release.index_dir, failed.sha256).sha256 == failed.sha256


def test_no_verdict_is_refused(release):
    with pytest.raises(NotPromotable, match="has no verdict"):
        require_proof(replace(release, verdict_sha256=None))


def test_a_missing_verdict_file_is_refused(release):
    with pytest.raises(NotPromotable, match="missing or was changed"):
        require_proof(release)


def test_an_edited_verdict_file_is_refused(release, passed):
    failed = passed.model_copy(update={"checks": (passed.checks[0].model_copy(update={"passed": False}),)})
    path = write_verdict(release.index_dir, failed)
    edited = json.loads(path.read_text())
    edited["checks"][0]["passed"] = True
    path.write_text(json.dumps(edited))
    assert read_verdict(release.index_dir, failed.sha256) is None
    with pytest.raises(NotPromotable, match="missing or was changed"):
        require_proof(replace(release, verdict_sha256=failed.sha256))


def test_a_failed_verdict_is_refused_and_names_the_check(release, passed):
    failed = passed.model_copy(update={"checks": (passed.checks[0].model_copy(update={"passed": False}),)})
    write_verdict(release.index_dir, failed)
    with pytest.raises(NotPromotable, match="recall@10"):
        require_proof(replace(release, verdict_sha256=failed.sha256))


def test_a_verdict_without_checks_is_refused(release, passed):
    empty = passed.model_copy(update={"checks": ()})
    write_verdict(release.index_dir, empty)
    with pytest.raises(NotPromotable, match="no check"):
        require_proof(replace(release, verdict_sha256=empty.sha256))


def test_a_verdict_of_another_artifact_is_refused(release, passed):
    other = passed.model_copy(update={"manifest_sha256": "d" * 64})
    write_verdict(release.index_dir, other)
    with pytest.raises(NotPromotable, match="judged artifact dddd"):
        require_proof(replace(release, verdict_sha256=other.sha256))


def test_a_manifest_that_changed_after_registration_is_refused(release, passed, manifest):
    write_verdict(release.index_dir, passed)
    changed = manifest.model_copy(update={"items": 4})
    (release.index_dir / MANIFEST_NAME).write_text(changed.model_dump_json())
    with pytest.raises(CorruptArtifact, match="changed after it was registered"):
        require_proof(release)


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_manifest_that_cannot_be_read_is_refused(release, passed, content):
    write_verdict(release.index_dir, passed)
    path = release.index_dir / MANIFEST_NAME
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(CorruptArtifact, match=MANIFEST_NAME):
        require_proof(release)


def test_the_path_of_a_verdict_follows_from_its_hash(release, passed):
    assert verdict_path(release.index_dir, passed.sha256).name == f"{passed.sha256}.json"
