"""Concepts: what an emoji shows (name, groups, tags, words in other languages) and which drawing of a set shows it.

Names, tags and groups come from OpenMoji's data file, other languages from Unicode CLDR annotations.
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike.catalogue.icon_set import IconSet, slug

_VARIATION_SELECTOR = "fe0f"


@dataclass(frozen=True)
class Concept:
    """One thing that many brands draw. `slug` is its identity (group_id); `code_points` are as in IconSet.chars."""

    slug: str
    title: str
    group: str
    subgroup: str
    tags: tuple[str, ...]
    character: str
    code_points: str
    keywords: dict[str, tuple[str, ...]]


def read_concepts(openmoji: Path, cldr: Path, languages: Sequence[str]) -> list[Concept]:
    """All emoji concepts in Unicode order, without skin-tone variants, components and OpenMoji's own extras."""
    words = {language: _annotations(cldr, language) for language in languages}
    concepts: dict[str, Concept] = {}
    for entry in json.loads((openmoji / "data" / "openmoji.json").read_text()):
        if entry["skintone"] != "" or entry["group"].startswith("extras") or entry["group"] == "component":
            continue
        character = entry["emoji"]
        keywords = {language: _words(table, character) for language, table in words.items()}
        concept = Concept(
            slug=slug(entry["annotation"]),
            title=entry["annotation"],
            group=entry["group"],
            subgroup=entry["subgroups"],
            tags=_split(f"{entry['tags']},{entry['openmoji_tags']}"),
            character=character,
            code_points=_plain(entry["hexcode"]),
            keywords={language: found for language, found in keywords.items() if found},
        )
        concepts.setdefault(concept.slug, concept)
    return list(concepts.values())


def match(concepts: Sequence[Concept], icons: IconSet) -> dict[str, Concept]:
    """Icon name -> concept for the drawings of a set: by code point, by name or alias, then by older names.

    Older names are the character's name in Unicode ("dizzy face") and names written together ("redapple"). Each
    drawing is given at most once: of two concepts that lead to one picture, the first in Unicode order has it.
    """
    by_characters = {_plain(points): name for points, name in icons.chars.items()}
    by_name = {_concept_name(name): name for name in reversed(list(icons.names))}
    together = {_together(name): name for name in reversed(list(icons.names))}
    passes: tuple[Callable[[Concept], str | None], ...] = (
        lambda concept: by_characters.get(concept.code_points) or by_name.get(concept.slug),
        lambda concept: together.get(_together(_unicode_name(concept))) or together.get(_together(concept.slug)),
    )
    found: dict[str, Concept] = {}
    taken: set[tuple[str, ...]] = set()
    done: set[str] = set()
    for find in passes:
        for concept in concepts:
            name = None if concept.slug in done else find(concept)
            if name is not None and icons.identity(name) not in taken:
                taken.add(icons.identity(name))
                done.add(concept.slug)
                found[name] = concept
    return found


def _together(name: str) -> str:
    return slug(name).replace("-", "")


def _unicode_name(concept: Concept) -> str:
    characters = concept.character.replace("\ufe0f", "")
    return unicodedata.name(characters, "") if len(characters) == 1 else ""


def _concept_name(name: str) -> str:
    return slug(name).replace("flag-for-", "flag-", 1)  # EmojiOne's older names of flags


def _plain(code_points: str) -> str:
    return "-".join(point for point in code_points.lower().split("-") if point != _VARIATION_SELECTOR)


def _split(words: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))


def _annotations(cldr: Path, language: str) -> dict[str, dict[str, list[str]]]:
    path = cldr / "annotations" / language / "annotations.json"
    table: dict[str, dict[str, list[str]]] = json.loads(path.read_text())["annotations"]["annotations"]
    return table


def _words(table: dict[str, dict[str, list[str]]], character: str) -> tuple[str, ...]:
    entry = table.get(character) or table.get(character.replace("\ufe0f", "")) or {}
    return tuple(dict.fromkeys([*entry.get("tts", []), *entry.get("default", [])]))
