"""An Iconify icon set: drawings by name, aliases, categories, author and licence, as SVG documents of one square size.

Format: https://iconify.design/docs/types/iconify-json.html (body, aliases with flips and turns, chars, categories).
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MAX_ALIAS_DEPTH = 8
_SKIN_TONE = re.compile(r"skin-tone|-(light|medium-light|medium|medium-dark|dark)$")
_DEFAULT_SIDE = 16


def slug(text: str) -> str:
    """Lower-case ASCII words joined by hyphens: "Flag: Côte d’Ivoire" -> "flag-cote-divoire"."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = ascii_text.replace("&", "and").replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


@dataclass(frozen=True)
class IconSet:
    """One brand's drawings. `chars` maps code points ("1f34e", joined by "-") to names."""

    prefix: str
    info: dict[str, Any]
    icons: dict[str, dict[str, Any]]
    aliases: dict[str, dict[str, Any]]
    chars: dict[str, str]
    categories: dict[str, list[str]]
    last_modified: int  # seconds since 1970
    width: float
    height: float
    affixes: tuple[frozenset[str], frozenset[str]] = field(default=(frozenset(), frozenset()))

    @classmethod
    def read(cls, source: Path) -> "IconSet":
        """Read a single package's folder (`icons.json` and others) or one `json/PREFIX.json` of the full package."""
        if source.is_dir():
            parts = {name: _json(source / f"{name}.json") for name in ("icons", "info", "chars", "metadata")}
            return cls._of(parts["icons"], parts["info"], parts["chars"], parts["metadata"])
        data = _json(source)
        return cls._of(data, data.get("info", {}), data.get("chars", {}), data)

    @classmethod
    def _of(cls, data: dict[str, Any], info: dict[str, Any], chars: dict[str, str], more: dict[str, Any]) -> "IconSet":
        return cls(
            prefix=data["prefix"],
            info=info,
            icons=data["icons"],
            aliases=data.get("aliases", {}),
            chars=chars,
            categories=more.get("categories", {}),
            last_modified=int(data.get("lastModified", 0)),
            width=data.get("width", _DEFAULT_SIDE),
            height=data.get("height", _DEFAULT_SIDE),
            affixes=(_affixes(more.get("prefixes")), _affixes(more.get("suffixes"))),
        )

    @property
    def names(self) -> Iterator[str]:
        """Names of all drawings and aliases."""
        yield from self.icons
        yield from self.aliases

    def visible(self) -> Iterator[str]:
        """Names of own drawings (no aliases) that are neither hidden nor a skin-tone variant of another one."""
        emoji = self.info.get("category") == "Emoji"
        for name, icon in self.icons.items():
            if not icon.get("hidden") and not (emoji and self._is_skin_tone(name)):
                yield name

    def _is_skin_tone(self, name: str) -> bool:
        match = _SKIN_TONE.search(name)
        # "-dark" alone is a tone only beside its plain form ("waving-hand", "waving-hand-dark").
        return match is not None and (match[0] == "skin-tone" or name[: match.start()] in self.icons)

    def _chain(self, name: str) -> list[str]:
        chain = [name]
        while chain[-1] in self.aliases and len(chain) <= _MAX_ALIAS_DEPTH:
            chain.append(self.aliases[chain[-1]]["parent"])
        return chain

    def identity(self, name: str) -> tuple[str, ...]:
        """Equal for two names of one drawing: the drawing's own name and the aliases that flip or turn it."""
        *aliases, own = self._chain(name)
        return own, *(alias for alias in aliases if len(self.aliases[alias]) > 1)

    def drawing(self, name: str) -> dict[str, Any]:
        """Body and geometry of an icon after its aliases are followed: flips toggle, quarter turns add up."""
        chain = self._chain(name)
        merged: dict[str, Any] = {"left": 0, "top": 0, "width": self.width, "height": self.height}
        flips = {"hFlip": False, "vFlip": False}
        turns = 0
        for step in reversed(chain):
            entry = self.icons.get(step) or self.aliases[step]
            merged |= {key: entry[key] for key in ("body", "left", "top", "width", "height") if key in entry}
            flips = {key: on != bool(entry.get(key)) for key, on in flips.items()}
            turns += int(entry.get("rotate", 0))
        return merged | flips | {"rotate": turns % 4}

    def svg(self, name: str, pixels: int) -> str:
        """A square SVG document of `pixels` a side; the drawing is fitted and centred, single-colour ones are black."""
        d = self.drawing(name)
        left, top, width, height = (float(d[key]) for key in ("left", "top", "width", "height"))
        centre_x, centre_y = left + width / 2, top + height / 2
        moves = []
        if d["rotate"]:
            moves.append(f"rotate({90 * d['rotate']} {centre_x:g} {centre_y:g})")
        if d["hFlip"] or d["vFlip"]:
            sign_x, sign_y = (-1 if d["hFlip"] else 1), (-1 if d["vFlip"] else 1)
            moves.append(
                f"translate({centre_x:g} {centre_y:g}) scale({sign_x} {sign_y}) translate({-centre_x:g} {-centre_y:g})"
            )
        if d["rotate"] % 2:
            left, top, width, height = centre_x - height / 2, centre_y - width / 2, height, width
        body = f'<g transform="{" ".join(moves)}">{d["body"]}</g>' if moves else d["body"]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
            f'width="{pixels}" height="{pixels}" viewBox="{left:g} {top:g} {width:g} {height:g}">{body}</svg>'
        )

    def plain_name(self, name: str) -> str:
        """Slug of a name without the style words that the set declares ("home-outline" -> "home")."""
        prefixes, suffixes = self.affixes
        plain = slug(name)
        for suffix in sorted(suffixes, key=len, reverse=True):
            if plain.endswith(f"-{suffix}"):
                plain = plain[: -len(suffix) - 1]
                break
        for prefix in sorted(prefixes, key=len, reverse=True):
            if plain.startswith(f"{prefix}-"):
                plain = plain[len(prefix) + 1 :]
                break
        return plain or slug(name) or name


def _affixes(declared: Any) -> frozenset[str]:
    return frozenset(slug(affix) for affix in declared or () if slug(affix))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
