"""`catalogue fetch icons`: npm packages to a snapshot of real drawings, one product per drawing.

The five trained brands draw the same concepts, so the concept is the ground truth: same group_id, same product.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lookalike.catalogue.concepts import Concept, match, read_concepts
from lookalike.catalogue.generated import generated_offer
from lookalike.catalogue.icon_set import IconSet
from lookalike.catalogue.licences import is_free
from lookalike.catalogue.packages import fetch_package, package, read_data
from lookalike.catalogue.render import Renderer
from lookalike.catalogue.snapshot import Snapshot, SnapshotWriter
from lookalike.catalogue.splits import NAMED_TEST_BRANDS, TRAINED_BRANDS
from lookalike.contracts.errors import BadQuery, MissingPrerequisite
from lookalike.contracts.progress import LogProgress, Progress
from lookalike.contracts.settings import Settings

FULL_PACKAGE = "@iconify/json"
CONCEPT_PACKAGES = ("openmoji", "cldr-annotations-full")


@dataclass(frozen=True)
class IconsConfig:
    """data/icons.toml: size of the pictures, languages, and what the generated columns are made from."""

    pixels: int
    languages: tuple[str, ...]
    currency: str
    seed: int


@cache
def icons_config() -> IconsConfig:
    """The one place where the defaults of the icons catalogue are read."""
    values = read_data("icons.toml")
    return IconsConfig(values["pixels"], tuple(values["languages"]), values["currency"], values["seed"])


def fetch_icons(
    settings: Settings, progress: Progress, sets: Sequence[str] | None = None, all_sets: bool = False
) -> Snapshot:
    """Fetch, match, render and write the icons catalogue; a second run downloads and renders nothing.

    Without `sets`: the five trained brands, only drawings that show a concept. With `sets`: all drawings of these
    sets. With `all_sets`: every set of the full package whose licence lets anyone use it (no NC, ND or GPL).
    Raises MissingPrerequisite, CorruptArtifact, and BadQuery for a set that does not exist.
    """
    if sets and all_sets:
        raise BadQuery("give either names of sets or all sets, not both")
    if all_sets:
        return _fetch(settings, progress, _free_sets(settings, progress), "icons:all", concepts_only=False)
    if sets:
        names = sorted(set(sets))
        return _fetch(settings, progress, _single(settings, progress, names), f"icons:{'+'.join(names)}", False)
    return _fetch(settings, progress, _single(settings, progress, TRAINED_BRANDS), "icons", concepts_only=True)


def fetch_test_brands(settings: Settings, progress: Progress, brands: Sequence[str] = NAMED_TEST_BRANDS) -> Snapshot:
    """All drawings of brands that are never trained on, as a snapshot below HOME/evaluation.

    It lies apart from the catalogue's snapshots, so that it is never ingested by mistake. A drawing that shows a
    concept of the trained brands has its slug as group_id.
    """
    sources = _single(settings, progress, brands)
    root = settings.home.absolute() / "evaluation"
    return _fetch(settings, progress, sources, f"icons:{'+'.join(brands)}", concepts_only=False, root=root)


def fetch_packages(settings: Settings, progress: Progress | None = None) -> None:
    """Download what the default catalogue needs and nothing else; `fetch_icons` then works without a network."""
    names = [f"@iconify-json/{brand}" for brand in TRAINED_BRANDS]
    _packages(settings, progress or LogProgress(), [*names, *CONCEPT_PACKAGES])


def _fetch(
    settings: Settings,
    progress: Progress,
    sources: Sequence[Path],
    source: str,
    concepts_only: bool,
    root: Path | None = None,
) -> Snapshot:
    config = icons_config()
    openmoji, cldr = _packages(settings, progress, CONCEPT_PACKAGES)
    concepts = read_concepts(openmoji, cldr, config.languages)
    writer = SnapshotWriter(root or settings.snapshots_root, f"fetch-{source}"[:80])
    writer.discard()
    with Renderer(settings.pictures_root) as renderer:
        for part, path in enumerate(sources):
            icons = IconSet.read(path)
            found = match(concepts, icons)
            names = list(found) if concepts_only else list(dict.fromkeys([*found, *icons.visible()]))
            with progress.step(f"render {icons.prefix}", total=len(names)) as step:
                pictures = renderer.render([icons.svg(name, config.pixels) for name in names], step)
            drawn = [(name, picture) for name, picture in zip(names, pictures, strict=True) if picture is not None]
            writer.write(part, _products(icons, found, drawn, config))
    return writer.finish(source, complete=True)


def _products(
    icons: IconSet, found: dict[str, Concept], drawn: Sequence[tuple[str, str]], config: IconsConfig
) -> Iterator[dict[str, Any]]:
    categories = {name: category for category, names in icons.categories.items() for name in names}
    by_slug = {concept.slug: concept for concept in found.values()}
    for name, picture in drawn:
        plain = icons.plain_name(name)
        concept = found.get(name) or by_slug.get(plain)
        described = _of_concept(concept) if concept else _of_name(plain, categories.get(name))
        item_id = f"{icons.prefix}:{name}"
        yield {
            "item_id": item_id,
            "version": icons.last_modified,
            "image_path": picture,
            "brand": icons.prefix,
            "attributes": [("collection", icons.info.get("name", icons.prefix))],
            **described,
            **_credit(icons),
            **generated_offer(item_id, config.seed, config.currency),
        }


def _of_concept(concept: Concept) -> dict[str, Any]:
    return {
        "title": concept.title,
        "category_path": [concept.group, concept.subgroup],
        "tags": list(concept.tags),
        "group_id": concept.slug,
        "keywords": [(language, list(words)) for language, words in concept.keywords.items()],
    }


def _of_name(plain: str, category: str | None) -> dict[str, Any]:
    return {
        "title": plain.replace("-", " "),
        "category_path": [category] if category else [],
        "tags": [category.lower()] if category else [],
        "group_id": plain,
    }


def _credit(icons: IconSet) -> dict[str, Any]:
    licence, author = icons.info.get("license", {}), icons.info.get("author", {})
    return {
        "licence": licence.get("spdx") or licence.get("title"),
        "licence_url": licence.get("url"),
        "author": author.get("name"),
        "author_url": author.get("url"),
    }


def _single(settings: Settings, progress: Progress, names: Sequence[str]) -> list[Path]:
    for name in names:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise BadQuery(f"{name!r} is not the prefix of an icon set: lower-case words joined by hyphens, e.g. noto")
    return _packages(settings, progress, [f"@iconify-json/{name}" for name in names])


def _free_sets(settings: Settings, progress: Progress) -> list[Path]:
    (full,) = _packages(settings, progress, [FULL_PACKAGE])
    paths = sorted((full / "json").glob("*.json"))
    if not paths:
        raise MissingPrerequisite(f"the unpacked package {FULL_PACKAGE} in {full} is empty: remove it and run again")
    return [path for path in paths if _free(path)]


def _free(path: Path) -> bool:
    licence = IconSet.read(path).info.get("license", {})
    return is_free(licence.get("spdx"), licence.get("title"))


def _packages(settings: Settings, progress: Progress, names: Sequence[str]) -> list[Path]:
    folders = []
    with progress.step("fetch packages", total=len(names)) as step:
        for name in names:
            folders.append(fetch_package(package(name), settings.home.absolute() / "packages"))
            step.advance()
    return folders
