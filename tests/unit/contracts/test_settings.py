"""A wrong setting is named with its source, key, value and what is allowed."""

import pytest
from pydantic import ValidationError

from lookalike.contracts.errors import SettingsError
from lookalike.contracts.settings import load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_environment_beats_file_and_command_line_beats_both(tmp_path, monkeypatch):
    (tmp_path / "lookalike.toml").write_text("[serving]\nport = 1001\npoll_seconds = 3.0\n")
    assert load_settings().serving.port == 1001
    monkeypatch.setenv("LOOKALIKE_SERVING__PORT", "1002")
    assert load_settings().serving.port == 1002
    both = load_settings(serving={"port": 1003}).serving
    assert (both.port, both.poll_seconds) == (1003, 3.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[serving]\nport = 70000\n", ["lookalike.toml", "serving.port", "70000", "65535"]),
        ("[serving]\nprot = 1\n", ["lookalike.toml", "serving.prot", "poll_seconds"]),
        ("[servign]\nport = 1\n", ["lookalike.toml", "servign", "serving"]),
        ("[encoder]\ndevice = 'tpu'\n", ["encoder.device", "tpu", "cuda"]),
        ("[gate\n", ["lookalike.toml", "TOML"]),
    ],
)
def test_a_wrong_file_is_explained(tmp_path, text, words):
    (tmp_path / "lookalike.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    for word in words:
        assert word in str(caught.value)


def test_a_wrong_variable_is_named_with_its_value(monkeypatch):
    monkeypatch.setenv("LOOKALIKE_GATE__MIN_RECALL_AT_10", "2")
    with pytest.raises(SettingsError, match=r"LOOKALIKE_GATE__MIN_RECALL_AT_10.*'2'.*less than or equal to 1"):
        load_settings()


def test_a_misspelt_variable_is_refused_not_ignored(monkeypatch):
    monkeypatch.setenv("LOOKALIKE_GATE__MIN_RECAL", "0.5")
    with pytest.raises(SettingsError, match="LOOKALIKE_GATE__MIN_RECAL is not a setting"):
        load_settings()


def test_a_named_file_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load_settings()


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        load_settings().serving.port = 1


def test_private_networks_are_networks():
    assert (
        load_settings(intake={"private_networks": ("10.0.0.0/8", "fd00::/8")}).intake.private_networks[0]
        == "10.0.0.0/8"
    )
    with pytest.raises(SettingsError, match=r"intake\.private_networks.*10\.0\.0\.0/99.*does not appear to be"):
        load_settings(intake={"private_networks": ("10.0.0.0/99",)})
