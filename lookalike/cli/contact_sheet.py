"""Contact sheets: the pictures of answers in one PNG, each with rank, score, title, brand and licence."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.query import Hit, SearchAnswer
from lookalike.storage.atomic import write_bytes

TILE, CAPTION, COLUMNS, MARGIN = 128, 44, 6, 10
HEADING, LABEL = 34, 110
OTHER = "#d9480f"


def _caption(draw: ImageDraw.ImageDraw, left: int, top: int, rank: int, hit: Hit) -> None:
    font = ImageFont.load_default(11)
    lines = (
        f"{rank}  {hit.score:.3f}  {hit.product.get('brand') or ''}",
        str(hit.product.get("title") or ""),
        " · ".join(filter(None, (hit.product.get("licence"), hit.product.get("author")))),
    )
    for number, line in enumerate(lines):
        text = line
        while text and draw.textlength(text, font=font) > TILE:
            text = text[:-1]
        draw.text((left, top + number * 13), text, fill="black" if number < 2 else "#666666", font=font)


def write_contact_sheet(path: Path, answer: SearchAnswer, read_picture: Callable[[str], bytes]) -> None:
    """Write the sheet atomically; a picture that cannot be read leaves its tile empty but captioned."""
    rows = max(1, -(-len(answer.hits) // COLUMNS))
    sheet, draw = _blank(rows * (TILE + CAPTION + MARGIN) + MARGIN, 0)
    for number, hit in enumerate(answer.hits):
        left = MARGIN + number % COLUMNS * (TILE + MARGIN)
        top = MARGIN + number // COLUMNS * (TILE + CAPTION + MARGIN)
        _tile(sheet, draw, (left, top), number + 1, hit, read_picture)
    _save(sheet, path)


def write_comparison_sheet(
    path: Path,
    rows: Sequence[tuple[str, Sequence[tuple[str, Sequence[Hit]]]]],
    read_picture: Callable[[str], bytes],
) -> None:
    """Questions below each other, each with a row of tiles per release: (question, ((release, hits), …)).

    A hit that the other releases do not have is framed. Written atomically.
    """
    height = sum(HEADING + len(answers) * (TILE + CAPTION + MARGIN) for _, answers in rows) + MARGIN
    sheet, draw = _blank(max(height, TILE), LABEL)
    top = MARGIN
    for question, answers in rows:
        _heading(draw, top, question)
        top += HEADING
        ids = [{hit.item_id for hit in hits} for _, hits in answers]
        shared = set.intersection(*ids) if ids else set()
        for release, hits in answers:
            draw.multiline_text((MARGIN, top + TILE // 2 - 8), release, fill="black", font=ImageFont.load_default(13))
            for number, hit in enumerate(hits[:COLUMNS]):
                left = LABEL + MARGIN + number * (TILE + MARGIN)
                _tile(sheet, draw, (left, top), number + 1, hit, read_picture)
                if hit.item_id not in shared:
                    draw.rectangle((left - 3, top - 3, left + TILE + 3, top + TILE + 1), outline=OTHER, width=3)
            top += TILE + CAPTION + MARGIN
    _save(sheet, path)


def _heading(draw: ImageDraw.ImageDraw, top: int, question: str) -> None:
    draw.line((MARGIN, top, LABEL + COLUMNS * (TILE + MARGIN), top), fill="#888888")
    draw.text((MARGIN, top + 7), question, fill="black", font=ImageFont.load_default(15))


def _blank(height: int, label: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (label + COLUMNS * (TILE + MARGIN) + MARGIN, height), "white")
    return sheet, ImageDraw.Draw(sheet)


def _tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], rank: int, hit: Hit,
    read_picture: Callable[[str], bytes],
) -> None:  # fmt: skip
    left, top = at
    try:
        with Image.open(io.BytesIO(read_picture(hit.item_id))) as opened:
            picture = opened.convert("RGBA")
        picture.thumbnail((TILE, TILE))
        sheet.paste(picture, (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2), picture)
    except (OSError, LookalikeError):
        draw.rectangle((left, top, left + TILE, top + TILE), outline="#cccccc")
    _caption(draw, left, top + TILE + 3, rank, hit)


def _save(sheet: Image.Image, path: Path) -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
