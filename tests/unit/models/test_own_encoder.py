"""The encoder in the package: what the port promises, its size, its probe, and its grasp of unseen words."""

import shutil
import threading

import numpy as np
import pytest
import torch

from lookalike.contracts.errors import CorruptArtifact, LookalikeError, NotFound, SpaceMismatch
from models.encoders import PACKAGED_FOLDER, encoder_directory, encoder_kind, open_encoder, read_probe
from models.export import MAX_BYTES
from models.own_encoder import _fused
from models.probes import probe_pictures
from models.tokens import TextTokenizer
from models.towers import DualEncoder, TowerSpec


@pytest.fixture(scope="module")
def encoder():
    return open_encoder("lookalike-mini", "cpu")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_the_packaged_weights_fit_the_repository_and_the_card_is_there():
    assert (PACKAGED_FOLDER / "model.safetensors").stat().st_size <= MAX_BYTES <= 20_000_000
    assert "## Licences" in (PACKAGED_FOLDER / "MODEL_CARD.md").read_text()
    assert encoder_directory("lookalike-mini") == PACKAGED_FOLDER
    assert encoder_kind(PACKAGED_FOLDER) == "lookalike-mini"


def test_it_reproduces_its_probe_here(encoder):
    probe = read_probe("lookalike-mini")
    assert len(probe.pictures) == len(probe.texts) == 16
    assert probe.require(encoder) > 0.9999


def test_any_picture_and_any_text_gives_a_unit_vector(encoder):
    pictures = [noise(1, 1), noise(1, 5000), noise(3000, 2), noise(64, 64), noise(500, 300)]
    vectors = encoder.encode_pictures(pictures)
    assert vectors.shape == (5, encoder.space.dim) and vectors.dtype == np.float32
    texts = encoder.encode_texts(["", " ", "x" * 10_000, "shoe " * 10_000, "\x00\ud7ff🙂", "red apple"])
    for rows in (vectors, texts):
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert encoder.encode_pictures([]).shape == encoder.encode_texts([]).shape == (0, encoder.space.dim)


def test_a_batch_gives_what_single_calls_give_in_their_order(encoder):
    pictures = [noise(30 + n, 40) for n in range(70)]  # more than one internal batch
    together = encoder.encode_pictures(pictures)
    for n in (0, 63, 64, 69):
        assert np.allclose(together[n], encoder.encode_pictures([pictures[n]])[0], atol=1e-5)
    texts = ["apple", "a much longer text about wooden chairs", "dog"]
    for text, row in zip(texts, encoder.encode_texts(texts), strict=True):
        assert np.allclose(row, encoder.encode_texts([text])[0], atol=1e-5)


def test_threads_share_one_encoder(encoder):
    texts = [f"{number} green apples and a dog" for number in range(8)]
    expected = encoder.encode_texts(texts)
    got: list = [None] * 8

    def work(number: int) -> None:
        for _ in range(25):
            got[number] = (encoder.encode_texts([texts[number]])[0], encoder.encode_pictures([noise(9, 9)])[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.allclose(got[n][0], expected[n], atol=1e-5) for n in range(8))


def test_a_single_string_and_a_wrong_picture_are_refused(encoder):
    with pytest.raises(LookalikeError, match="put a single text into a list"):
        encoder.encode_texts("red apple")
    with pytest.raises(LookalikeError, match="uint8 of shape"):
        encoder.prepare(np.zeros((4, 4, 4), np.uint8))


def test_it_understands_words_that_the_catalogue_never_used(encoder):
    """Each word's nearest of the others must be its synonym; none of the first words is a name or tag of the icons."""
    pairs = [("automobile", "car"), ("physician", "doctor"), ("feline", "cat"), ("sofa", "couch"), ("hound", "dog")]
    rare, common = (encoder.encode_texts([pair[side] for pair in pairs]) for side in (0, 1))
    assert (rare @ common.T).argmax(axis=1).tolist() == list(range(len(pairs)))


def test_other_weights_fail_the_probe_and_change_the_fingerprint(encoder, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(PACKAGED_FOLDER, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    state["image.head.weight"] = state["image.head.weight"].roll(1, 0)
    save_file(state, copy / "model.safetensors")
    other = open_encoder(str(copy), "cpu")
    assert other.space.fingerprint != encoder.space.fingerprint
    with pytest.raises(SpaceMismatch, match="does not reproduce its probe"):
        read_probe(str(copy)).require(other)


def test_damaged_folders_name_what_is_wrong(tmp_path):
    copy = shutil.copytree(PACKAGED_FOLDER, tmp_path / "copy")
    (copy / "probe.safetensors").unlink()
    with pytest.raises(NotFound, match=r"lacks probe\.safetensors"):
        read_probe(str(copy))
    (copy / "probe.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(CorruptArtifact, match="not a whole probe"):
        read_probe(str(copy))
    description = (copy / "encoder.json").read_text()
    (copy / "encoder.json").write_text(description.replace('"dim": 256', '"dim": 128'))
    with pytest.raises(CorruptArtifact, match="do not fit together"):
        open_encoder(str(copy), "cpu")


def test_absorbing_the_normalisation_changes_nothing():
    import copy

    spec = TowerSpec(
        dim=16, pixels=32, stem=8, widths=(8, 16), depths=(2, 1), vocabulary=10, token_dim=8, text_hidden=8
    )
    model = DualEncoder(spec).train()
    pictures = torch.randint(0, 256, (32, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    for module in model.image.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    model.image(pictures)  # gives the normalisation statistics that are not the identity
    model.eval()
    with torch.no_grad():
        plain, fused = model.image(pictures), _fused(copy.deepcopy(model)).image(pictures)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in _fused(model).image.modules())
    assert torch.allclose(plain, fused, atol=1e-4)


def test_padding_does_not_change_a_text():
    tower = DualEncoder(TowerSpec(dim=8, vocabulary=50, token_dim=8, text_hidden=8)).text.eval()
    torch.nn.init.normal_(tower.context.weight)
    torch.nn.init.normal_(tower.narrow.weight)
    short, padded = torch.tensor([[3, 4]]), torch.tensor([[3, 4, -1, -1]])
    with torch.no_grad():
        assert torch.allclose(tower(short), tower(padded), atol=1e-6)
        assert not torch.allclose(tower(short), tower(torch.tensor([[4, 3]])), atol=1e-3)  # order is seen


def test_a_text_without_tokens_becomes_unknown_and_a_long_one_is_cut():
    from tokenizers import Tokenizer

    tokenizer = TextTokenizer(Tokenizer.from_file(str(PACKAGED_FOLDER / "tokenizer.json")), 5)
    unknown = Tokenizer.from_file(str(PACKAGED_FOLDER / "tokenizer.json")).token_to_id("[UNK]")
    rows = tokenizer(["", "one two three four five six seven"])
    assert rows.shape == (2, 5) and rows[0].tolist() == [unknown, -1, -1, -1, -1] and int(rows[1].min()) >= 0
    assert tokenizer([]).shape[0] == 0


def test_probe_pictures_are_all_different_and_of_awkward_shapes():
    pictures = probe_pictures()
    assert len({picture.tobytes() for picture in pictures}) == 16
    assert {(1, 1), (200, 3)} <= {picture.shape[:2] for picture in pictures}
