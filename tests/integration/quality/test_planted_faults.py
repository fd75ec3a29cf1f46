"""Faults planted into real tables and real FAISS indexes: measured by the evaluation, stopped by the gate by name."""

import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from index_builder.build import build
from index_builder.delta_source import DeltaSource
from index_builder.reader import open_index
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import GateSettings, IndexSettings, Settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.verdict import Check
from lookalike.evaluation.candidate import measure_candidate
from lookalike.evaluation.latency import measure_latency
from lookalike.evaluation.pinned import PinnedTables, questions_about, read_pinned, shown_of, vectors_of
from lookalike.evaluation.truth import lowest_cosine
from lookalike.line.measurements import filters_to_ask
from lookalike.quality.artifact import bytes_on_disk, corrupt_files
from lookalike.quality.evidence import read_verdict, write_evidence
from lookalike.quality.gate import judge
from lookalike.quality.measured import Measured, SpaceFigures
from lookalike.storage.delta import DeltaTables

pytestmark = pytest.mark.slow
SUITES = [Check(name=f"{what}_expectations", passed=True, observed="", bar="") for what in ("silver", "embedding")]


class Careless:
    """A real index searched with too few of its lists."""

    def __init__(self, index):
        self._index = index
        self.columns, self.vectors, self.manifest = index.columns, index.vectors, index.manifest
        self.sets = index.sets

    def search(self, queries, k, allowed=None):
        return self.planned_search(queries, k, allowed)[:2]

    def planned_search(self, queries, k, allowed=None, exact=False):
        return (*self._index.search_with({"nprobe": 1, "k_factor": 1}, queries, k), "index")


class PostFiltering(Careless):
    """A real index that looks for some candidates first and drops those that a filter keeps out."""

    def planned_search(self, queries, k, allowed=None, exact=False):
        if allowed is None:
            return self._index.planned_search(queries, k)
        scores, rows = self._index.search(queries, 4 * k)
        passed = allowed.has(np.where(rows < 0, 0, rows)) & (rows >= 0)
        order = np.argsort(~passed, axis=1, kind="stable")[:, :k]
        passed, rows, scores = (np.take_along_axis(each, order, axis=1) for each in (passed, rows, scores))
        return np.where(passed, scores, -np.inf), np.where(passed, rows, -1), "index"


class World:
    """Tables on disk, the release built from them and a gate over it. `encode` stands for the encoder."""

    def __init__(self, root, tables, spoil=None, keep=slice(None)):
        self.root, self.space, self.true = root, tables.space, tables.vectors
        silver, embeddings = tables.arrow()
        if spoil is not None:
            vectors = spoil(tables.vectors).astype(np.float32).tolist()
            place = embeddings.schema.get_field_index("vector")
            field = EMBEDDINGS.schema.field("vector").with_nullable(True)
            embeddings = embeddings.set_column(place, field, pa.array(vectors, field.type))
        rows = list(range(silver.num_rows))[keep]
        self.tables = DeltaTables(root / "tables")
        self.tables.append(SILVER, silver.take(rows))
        self.tables.append(EMBEDDINGS, embeddings.take(rows))
        self.titles = {}
        for row, vector in zip(tables.silver, tables.vectors, strict=True):
            self.titles[row["title"]] = self.titles.get(row["title"], 0) + vector
        self.by_id = {row["item_id"]: vector for row, vector in zip(tables.silver, tables.vectors, strict=True)}

    def built(self, recipe="ivf_pq"):
        settings = Settings(home=self.root, index=IndexSettings(recipe=recipe))
        directory = self.root / "index"
        build(settings, DeltaSource.newest(self.tables, self.space), directory, LogProgress())
        return directory

    def encode_texts(self, texts):
        vectors = np.array([self.titles[text] for text in texts], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def verdict(self, directory, *, index=None, live=None, call=None, encoder=None, corrupt=None):
        found = index or open_index(directory)
        manifest = open_index(directory, verify=False).manifest
        tables = PinnedTables(self.tables, manifest.table_versions)
        pinned = read_pinned(tables, self.space, 150, seed=7)
        asked = pinned.labelled.item_ids
        titles = shown_of(tables, asked, "title")
        questions = questions_about(asked, pinned.labelled.vectors, titles, self.encode_texts)
        theirs = None
        if live is not None:
            live_world, live_index = live
            there = PinnedTables(live_world.tables, live_index.manifest.table_versions)
            drawn = vectors_of(there, self.space, pinned.labels, asked)
            assert drawn.item_ids == asked
            theirs = questions_about(asked, drawn.vectors, titles, self.encode_texts)
        index_figures = measure_candidate(
            found, pinned.reference, questions, questions, pinned.labels, seed=7,
            filters=filters_to_ask(found, pinned, GateSettings()), live=live[1] if live else None,
            live_questions=theirs,
        )  # fmt: skip
        again = np.array([self.by_id[item] for item in asked[:32]])
        measured = Measured(
            manifest=manifest,
            corrupt_files=corrupt_files(directory, manifest),
            expectations=SUITES,
            space=SpaceFigures(
                encoder or self.space.fingerprint, sorted(pinned.spaces), 1.0,
                lowest_cosine(questions.picture_vectors[:32], again), 32,
            ),
            index=index_figures,
            latency=[measure_latency(call or (lambda i: found.search(questions.picture_vectors[[i]], 10)), 20)],
            bytes_on_disk=bytes_on_disk(directory),
            compared_with="1" if live else None,
        )  # fmt: skip
        return judge(measured, GateSettings(), datetime.now(UTC))


def failed(verdict):
    return {check.name for check in verdict.checks if not check.passed}


@pytest.fixture(scope="module")
def live(make_tables, tmp_path_factory):
    """A healthy world of 1,200 items, its release directory and the opened index."""
    world = World(tmp_path_factory.mktemp("live"), make_tables(300, 4))
    directory = world.built()
    return world, directory, open_index(directory)


def test_a_healthy_first_and_a_healthy_next_release_pass(live, tmp_path):
    world, directory, index = live
    first = world.verdict(directory)
    assert first.passed, failed(first)
    second = world.verdict(directory, live=(world, index))
    assert second.passed, failed(second)
    assert second.checks[-1].evidence == {"overlap_at_10": 1.0}
    assert read_verdict(write_evidence(tmp_path, second)) == second


def test_too_few_lists_searched_is_a_recall_below_the_bar(live):
    world, directory, index = live
    assert "recall_at_10" in failed(world.verdict(directory, index=Careless(index)))


def test_filtering_after_a_shallow_search_is_stopped_although_recall_without_a_filter_is_fine(live):
    world, directory, index = live
    verdict = world.verdict(directory, index=PostFiltering(index))
    assert failed(verdict) - {"latency"} == {"filtered_recall_at_10"}
    detail = next(check.detail for check in verdict.checks if check.name == "filtered_recall_at_10")
    assert "random rows (12 of 1,200 items, 1.00%): picture 0." in detail
    assert "questions with too few answers" in detail


def test_the_filters_are_random_rows_and_attributes_near_each_share(live):
    world, directory, _ = live
    check = next(check for check in world.verdict(directory).checks if check.name == "filtered_recall_at_10")
    filters = [(each["share"], each["filter"], each["allowed"]) for each in check.evidence["filters"]]
    assert filters == [
        (0.5, "random rows", 600), (0.1, "random rows", 120), (0.01, "random rows", 12), (0.001, "random rows", 1),
        (0.5, "brand brand-0", 300),
    ]  # fmt: skip
    assert check.evidence["not_measured"] == ["0.01%"]


def test_an_index_whose_own_columns_lie_is_stopped_under_the_filter(live):
    world, directory, index = live
    liar = PostFiltering(index)
    liar.planned_search, liar.sets = index.planned_search, None
    place = index.columns.schema.get_field_index("brand")
    liar.columns = index.columns.set_column(place, "brand", index.columns["brand"].take(np.arange(1_200)[::-1]))
    assert failed(world.verdict(directory, index=liar)) - {"latency"} == {"filtered_recall_at_10"}


def test_an_index_of_other_vectors_than_the_tables_is_stopped(live, make_tables, tmp_path):
    world, _, _ = live
    other = World(tmp_path, make_tables(300, 4), spoil=lambda v: np.roll(v, 4, axis=0)).built()
    found = failed(world.verdict(other))
    assert {"recall_at_10", "stored_items"} <= found


def test_shuffled_vectors_in_the_table_fool_recall_but_not_the_labels(live, make_tables, tmp_path):
    shuffled = World(tmp_path, make_tables(300, 4), spoil=np.random.default_rng(1).permutation)
    found = failed(shuffled.verdict(shuffled.built(), live=(live[0], live[2])))
    assert "label_metrics" in found
    assert "space_fingerprint" in found  # pictures encoded again differ
    assert "recall_at_10" not in found


def test_a_fifth_of_the_rows_lost_against_live_is_stopped(live, make_tables, tmp_path):
    small = World(tmp_path, make_tables(300, 4), keep=slice(0, 960))
    verdict = small.verdict(small.built("exact"), live=(live[0], live[2]))
    assert "row_loss" in failed(verdict)
    assert "-20.0%" in next(check.observed for check in verdict.checks if check.name == "row_loss")


def test_an_encoder_of_another_space_is_stopped(live):
    world, directory, _ = live
    assert failed(world.verdict(directory, encoder="0123456789abcdef")) == {"space_fingerprint"}


def test_a_slow_search_is_stopped(live):
    world, directory, _ = live
    assert failed(world.verdict(directory, call=lambda i: time.sleep(0.11))) == {"latency"}


def test_a_flipped_byte_is_stopped(live, make_tables, tmp_path):
    world = World(tmp_path, make_tables(300, 4))
    directory = world.built("exact")
    path = next(path for path in directory.iterdir() if path.suffix == ".faiss")
    data = bytearray(path.read_bytes())
    index = open_index(directory)  # opened before the fault, as a server might have
    data[-1] ^= 1
    path.write_bytes(data)
    assert "manifest_checksums" in failed(world.verdict(directory, index=index))
