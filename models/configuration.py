"""Training configuration as data (models/configs/*.json): every number of a training run, checked before it starts."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.contracts.errors import SettingsError
from models.augmentation import Augmentation
from models.towers import TowerSpec

CONFIGS = Path(__file__).parent / "configs"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DistillationPlan(_Section):
    """First stage: the text tower learns to give the teacher's sentence vectors."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    phrases: int = Field(ge=0, description="random combinations of catalogue words, besides single words and titles")
    vocabulary_words: bool = Field(
        description="start from and learn each word of the vocabulary; off: a start from input embeddings"
    )


class ContrastPlan(_Section):
    """Second stage: the image tower, with the text tower's head following gently."""

    steps: int = Field(ge=1)
    sides: tuple[tuple[int, int], ...] = Field(
        default=(), description="(first step, side of the pictures) in order: small pictures first cost less"
    )
    concepts: int = Field(ge=2, description="concepts per step; each brings two brands' pictures and one text")
    neighbours: float = Field(ge=0, le=1, description="share of a step's concepts that are drawn as whole subgroups")
    warm_up: int = Field(ge=0)
    cool_down: int = Field(ge=0, description="last steps, over which the learning rate falls to zero")
    learning_rate: float = Field(gt=0)
    text_learning_rate: float = Field(ge=0, description="of the text tower without its token table, which stays fixed")
    weight_decay: float = Field(ge=0)
    picture_text: float = Field(ge=0, description="weight of picture-text InfoNCE beside picture-picture's 1")
    relation: float = Field(ge=0, description="weight of relational distillation of pictures from the teacher")
    relation_scale: float = Field(gt=0)
    text_anchor: float = Field(ge=0, description="weight that keeps the text tower at the teacher")
    bf16: bool = Field(description="convolutions in bfloat16; off where the processor has no such instructions")


class TrainingConfig(_Section):
    """All of a run. `seed` fixes weights, draws and augmentation."""

    name: str = Field(min_length=1)
    seed: int
    cache_pixels: int = Field(ge=16, description="side of the pictures kept in memory before augmentation")
    threads: int = Field(ge=1)
    checkpoint_steps: int = Field(ge=1)
    towers: TowerSpec = TowerSpec()
    augmentation: Augmentation = Augmentation()
    distillation: DistillationPlan
    contrast: ContrastPlan


def read_config(name_or_path: str | Path) -> TrainingConfig:
    """A configuration by its name in models/configs or by path. Raises SettingsError naming file, key and value."""
    path = Path(name_or_path)
    if path.suffix != ".json":
        path = CONFIGS / f"{name_or_path}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.json")))
        raise SettingsError(f"no training configuration {str(name_or_path)!r}; known: {known}, or a path to a .json")
    try:
        return TrainingConfig.model_validate_json(path.read_text())
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(map(str, detail['loc']))} = {detail['input']!r}: {detail['msg']}" for detail in error.errors()
        )
        raise SettingsError(f"{path}: {details}") from error
