"""The smoke configuration trains, exports, opens, and a killed run ends where an unbroken one does."""

import json
import shutil

import numpy as np
import pytest
import torch

from lookalike.contracts.errors import LookalikeError, SettingsError
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from models import training
from models.configuration import read_config
from models.dataset import read_rows, training_rows
from models.encoders import encoder_directory, open_encoder, read_probe
from models.model_card import add_figures
from models.text_stage import TEXT_STAGE

pytestmark = pytest.mark.slow


def no_held_out(slugs):
    return frozenset({"ellipse-red"})


@pytest.fixture(scope="module")
def trained(shape_snapshot, tmp_path_factory):
    """One run of the public `train` (24 concepts are fewer than the 380 held-out ones, so one is named instead)."""
    out = tmp_path_factory.mktemp("smoke") / "encoder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "held_out", no_held_out)
        report = training.train(
            Settings(), shape_snapshot / "snapshot", shape_snapshot / "pictures", out, "smoke", LogProgress()
        )
    return out, report


def test_the_report_says_what_was_done(trained):
    out, report = trained
    assert (report.directory, report.steps, report.concepts, report.products) == (out, 12, 23, 69)
    assert np.isfinite(report.loss) and 0.3 < report.text_cosine <= 1.0


def test_the_exported_folder_opens_reproduces_its_probe_and_is_in_half_precision(trained):
    out, _ = trained
    encoder = open_encoder(str(out), "cpu")
    assert read_probe(str(out)).require(encoder) > 0.9999
    assert encoder.space.encoder == "lookalike-smoke" and encoder.space.dim == 32
    assert encoder_directory(str(out)) == out
    assert {"encoder.json", "model.safetensors", "tokenizer.json", "probe.safetensors", "MODEL_CARD.md"} == {
        path.name for path in out.iterdir()
    }


def test_the_card_names_seed_data_and_command_and_takes_figures(trained, tmp_path):
    out, _ = trained
    copy = shutil.copytree(out, tmp_path / "copy")
    card = (copy / "MODEL_CARD.md").read_text()
    for said in ("lookalike train --config smoke", "| seed | 1 |", "69 pictures of 23 concepts", "CC BY-SA 4.0"):
        assert said in card
    add_figures(copy, "R@1 0.5")
    add_figures(copy, "R@1 0.6")
    card = (copy / "MODEL_CARD.md").read_text()
    assert "R@1 0.6" in card and "R@1 0.5" not in card and card.count("## Figures") == 1
    assert open_encoder(str(copy), "cpu").space == open_encoder(str(out), "cpu").space


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(shape_snapshot, tmp_path, trained, monkeypatch):
    config = read_config("smoke")
    rows = training_rows(read_rows(shape_snapshot / "snapshot"), {"openmoji", "twemoji", "noto"}, no_held_out(()))
    whole_state = training.run_state(trained[0])
    unbroken = torch.load(whole_state / "checkpoint.pt", weights_only=True)["model"]
    from models import picture_stage

    real, taken = picture_stage._train_step, []

    def dies_at_step_6(run, step):
        if step == 6:
            raise KeyboardInterrupt
        taken.append(step)
        return real(run, step)

    monkeypatch.setattr(picture_stage, "_train_step", dies_at_step_6)
    state = tmp_path / "state"
    state.mkdir()
    shutil.copy(whole_state / TEXT_STAGE, state)  # the text stage is kept; here it saves the test its time
    with pytest.raises(KeyboardInterrupt):
        training.fit(rows, shape_snapshot / "pictures", state, config, LogProgress())
    monkeypatch.setattr(picture_stage, "_train_step", lambda run, step: (taken.append(step), real(run, step))[1])
    training.fit(rows, shape_snapshot / "pictures", state, config, LogProgress())
    assert taken == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 10, 11]  # from the checkpoint after step 3
    resumed = torch.load(state / "checkpoint.pt", weights_only=True)["model"]
    # The normalisation's running means come from the first half's thread alone and are equal too.
    assert all(torch.allclose(unbroken[key].float(), resumed[key].float(), atol=1e-6) for key in unbroken)


def test_a_state_of_another_configuration_is_refused(shape_snapshot, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "identity.json").write_text(json.dumps({"config": {}, "items": []}))
    with pytest.raises(LookalikeError, match="another configuration"):
        training.fit([], shape_snapshot / "pictures", state, read_config("smoke"), LogProgress())


def test_a_wrong_configuration_names_file_key_and_value(tmp_path):
    config = json.loads((training.Path(training.__file__).parent / "configs" / "smoke.json").read_text())
    config["contrast"]["steps"] = 0
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(config))
    with pytest.raises(SettingsError, match=r"mine\.json: contrast\.steps = 0"):
        read_config(path)
    with pytest.raises(SettingsError, match="known: lookalike_mini, lookalike_mini_512, smoke"):
        read_config("lookalike-maxi")
