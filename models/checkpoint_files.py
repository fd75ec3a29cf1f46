"""Files of a foreign checkpoint: found or fetched, safetensors only."""

from pathlib import Path

from lookalike.contracts.errors import LookalikeError, MissingPrerequisite, NotFound

HUB_PREFIX = "hf-hub:"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_WANTED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.tiktoken")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "vocab.txt",
    "spiece.model", "tokenizer.model", "added_tokens.json",
)  # fmt: skip


def safetensors_files(folder: Path) -> list[str]:
    """Names of the weight files, without a probe."""
    return sorted(path.name for path in folder.glob("*.safetensors") if path.name != "probe.safetensors")


def require_safetensors(folder: Path) -> None:
    """Raise unless the folder's weights are safetensors: NotFound for none, LookalikeError for pickles only."""
    if safetensors_files(folder):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if not pickles:
        raise NotFound(f"{folder} holds no weights (*.safetensors)")
    name = pickles[0]
    raise LookalikeError(
        f"{folder} has its weights only as a pickle ({', '.join(pickles)}), which can run code when it is opened. "
        f'Convert it where you trust its origin: python -c "import torch, safetensors.torch as s; '
        f"s.save_file({{k: v.contiguous().clone() for k, v in torch.load('{name}', weights_only=True).items()}}, "
        f"'{_converted_name(folder)}')\", and keep the new file alone"
    )


def _converted_name(folder: Path) -> str:
    own = (folder / "open_clip_config.json").is_file()
    return "open_clip_model.safetensors" if own else "model.safetensors"


def tokenizer_files(folder: Path) -> list[str]:
    """Names of those tokenizer files that are there."""
    return [name for name in TOKENIZER_FILES if (folder / name).is_file()]


def download(repository: str) -> Path:
    """Fetch a hub repository's configuration and safetensors into the hub cache; pickles are never fetched."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(_WANTED)))
    except Exception as error:  # the hub client raises many types; all mean that it is not here
        raise MissingPrerequisite(
            f"cannot fetch {repository} from the hub ({type(error).__name__}: {error}); download it elsewhere and give "
            f"the folder"
        ) from error
