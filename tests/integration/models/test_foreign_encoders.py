"""open_clip, CLIP and SigLIP: tiny random models saved by the real libraries, opened by ours, compared with theirs."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lookalike.contracts.errors import LookalikeError, NotFound
from models.encoders import encoder_directory, open_encoder, read_probe

pytestmark = pytest.mark.slow
TEXTS = ["a red apple", "shoe"]
LAYERS = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def picture(height: int = 40, width: int = 30) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors, dim=1).numpy()


def word_tokenizer(folder, length: int):
    """A real fast tokenizer of a few words, as Hugging Face folders carry one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[EOS]", "a", "red", "apple", "shoe"])}
    core = Tokenizer(models.WordLevel(words, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]", model_max_length=length
    )
    fast.save_pretrained(folder)
    return fast


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    text = {
        **LAYERS,
        "vocab_size": 7,
        "max_position_embeddings": 12,
        "eos_token_id": 2,
        "bos_token_id": 2,
        "pad_token_id": 0,
    }
    vision = {**LAYERS, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    word_tokenizer(folder, 12)
    return folder


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory):
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    folder = tmp_path_factory.mktemp("siglip")
    text = {**LAYERS, "vocab_size": 7, "max_position_embeddings": 12, "projection_size": 16}
    vision = {**LAYERS, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    word_tokenizer(folder, 12)
    return folder


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory):
    import open_clip

    folder = tmp_path_factory.mktemp("openclip")
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    preparation = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preparation}))
    return folder


def test_clip_gives_the_vectors_of_transformers(clip_folder):
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    ours = open_encoder(str(clip_folder), "cpu")
    theirs, tokenizer = CLIPModel.from_pretrained(clip_folder).eval(), AutoTokenizer.from_pretrained(clip_folder)
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)(Image.fromarray(picture()), return_tensors="pt")
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():  # by the model's joint forward, not by the calls that our encoder makes
        joint = theirs(pixel_values=pixels["pixel_values"], input_ids=tokens["input_ids"],
                       attention_mask=tokens["attention_mask"])  # fmt: skip
    assert np.allclose(ours.encode_pictures([picture()]), unit(joint.image_embeds), atol=1e-5)
    assert np.allclose(ours.encode_texts(TEXTS), unit(joint.text_embeds), atol=1e-5)
    assert ours.space.dim == 8


def test_siglip_gives_the_vectors_of_transformers_with_full_length_padding(siglip_folder):
    from transformers import AutoTokenizer, SiglipImageProcessor, SiglipModel

    ours = open_encoder(str(siglip_folder), "cpu")
    theirs, tokenizer = SiglipModel.from_pretrained(siglip_folder).eval(), AutoTokenizer.from_pretrained(siglip_folder)
    pixels = SiglipImageProcessor.from_pretrained(siglip_folder)(Image.fromarray(picture()), return_tensors="pt")
    tokens = tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        joint = theirs(pixel_values=pixels["pixel_values"], input_ids=tokens["input_ids"])
    assert np.allclose(ours.encode_pictures([picture()]), unit(joint.image_embeds), atol=1e-5)
    assert np.allclose(ours.encode_texts(TEXTS), unit(joint.text_embeds), atol=1e-5)
    assert ours.space.dim == 16


def test_open_clip_gives_the_vectors_of_open_clip(open_clip_folder):
    import open_clip

    ours = open_encoder(str(open_clip_folder), "cpu")
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{open_clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{open_clip_folder}")
    with torch.no_grad():
        pixels = theirs.eval().encode_image(transform(Image.fromarray(picture())).unsqueeze(0))
        words = theirs.encode_text(tokenizer(TEXTS))
    assert np.allclose(ours.encode_pictures([picture()]), unit(pixels), atol=1e-5)
    assert np.allclose(ours.encode_texts(TEXTS), unit(words), atol=1e-5)
    assert ours.space.dim == 8


def test_a_wrapped_open_clip_checkpoint_opens_the_same(open_clip_folder, tmp_path):
    """Marqo's Hugging Face files hold open_clip's module under `model.`."""
    state = load_file(open_clip_folder / "open_clip_model.safetensors")
    save_file({f"model.{key}": value for key, value in state.items()}, tmp_path / "model.safetensors")
    (tmp_path / "open_clip_config.json").write_bytes((open_clip_folder / "open_clip_config.json").read_bytes())
    ours = open_encoder(str(tmp_path), "cpu").encode_texts(TEXTS)
    assert np.allclose(ours, open_encoder(str(open_clip_folder), "cpu").encode_texts(TEXTS), atol=1e-6)


@pytest.mark.parametrize("kind", ["clip_folder", "siglip_folder", "open_clip_folder"])
def test_awkward_inputs_give_unit_vectors(kind, request):
    encoder = open_encoder(str(request.getfixturevalue(kind)), "cpu")
    vectors = encoder.encode_pictures([picture(1, 1), picture(1, 5000), picture(700, 3)])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    texts = encoder.encode_texts(["", "apple " * 2000, "日本"])
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    assert encoder.encode_pictures([]).shape == (0, encoder.space.dim)


@pytest.mark.parametrize("kind", ["clip_folder", "open_clip_folder"])
def test_threads_share_one_encoder(kind, request):
    encoder = open_encoder(str(request.getfixturevalue(kind)), "cpu")
    texts = [[f"red {'apple ' * n}"] for n in range(1, 9)]
    alone = [encoder.encode_texts(text) for text in texts]
    together: list = [None] * 8

    def work(number: int) -> None:
        for _ in range(20):
            together[number] = encoder.encode_texts(texts[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(alone, together, strict=True))


def test_the_first_machine_leaves_a_probe_that_others_must_reproduce(clip_folder):
    probe = read_probe(str(clip_folder))
    assert (encoder_directory(str(clip_folder)) / "probe.safetensors").is_file()
    assert probe.require(open_encoder(str(clip_folder), "cpu")) > 0.9999


def test_the_space_changes_with_weights_preparation_and_tokenizer(clip_folder, tmp_path):
    import shutil

    spaces = {open_encoder(str(clip_folder), "cpu").space.fingerprint}
    for name in ("model.safetensors", "preprocessor_config.json", "tokenizer.json"):
        copy = shutil.copytree(clip_folder, tmp_path / name / clip_folder.name)
        if name == "model.safetensors":
            state = load_file(copy / name)
            state["visual_projection.weight"] += 0.01
            save_file(state, copy / name, {"format": "pt"})
        else:
            raw = (copy / name).read_text()
            changed = json.dumps({**json.loads(raw), "added": 1}) if name.startswith("pre") else raw + "\n"
            (copy / name).write_text(changed)
        spaces.add(open_encoder(str(copy), "cpu").space.fingerprint)
    assert len(spaces) == 4


@pytest.mark.parametrize("kind", ["clip_folder", "open_clip_folder"])
def test_a_pickle_is_refused_with_the_way_to_convert_it(kind, request, tmp_path):
    import shutil

    copy = shutil.copytree(request.getfixturevalue(kind), tmp_path / "copy")
    weights = next(path for path in copy.glob("*.safetensors") if path.name != "probe.safetensors")
    torch.save(load_file(weights), copy / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(LookalikeError, match=r"only as a pickle \(pytorch_model.bin\).*weights_only=True"):
        open_encoder(str(copy), "cpu")


def test_code_of_a_checkpoint_is_not_run(clip_folder, tmp_path):
    import shutil

    copy = shutil.copytree(clip_folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\n")
    with pytest.raises(LookalikeError, match="brings its own code"):
        open_encoder(str(copy), "cpu")
    assert not (tmp_path / "ran").exists()


def test_missing_and_unknown_folders_say_what_is_allowed(tmp_path):
    with pytest.raises(NotFound, match="hf-hub:organisation/name"):
        open_encoder("no/such/folder")
    with pytest.raises(LookalikeError, match="is no encoder"):
        open_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(LookalikeError, match="'bert' is not supported; allowed: clip, siglip"):
        open_encoder(str(tmp_path), "cpu")
    (tmp_path / "encoder.json").write_text(json.dumps({"kind": "onnx"}))
    with pytest.raises(LookalikeError, match="kind is 'onnx'; allowed: lookalike-mini"):
        open_encoder(str(tmp_path), "cpu")
