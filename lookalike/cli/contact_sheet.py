"""Contact sheet: the pictures of an answer in one PNG, each with rank, score, title, brand and licence."""

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lookalike.contracts.query import Hit, SearchAnswer
from lookalike.storage.atomic import write_bytes

TILE, CAPTION, COLUMNS, MARGIN = 128, 44, 6, 10


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
    size = (COLUMNS * (TILE + MARGIN) + MARGIN, rows * (TILE + CAPTION + MARGIN) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, hit in enumerate(answer.hits):
        left = MARGIN + number % COLUMNS * (TILE + MARGIN)
        top = MARGIN + number // COLUMNS * (TILE + CAPTION + MARGIN)
        try:
            with Image.open(io.BytesIO(read_picture(hit.item_id))) as opened:
                picture = opened.convert("RGBA")
            picture.thumbnail((TILE, TILE))
            sheet.paste(picture, (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2), picture)
        except OSError:
            draw.rectangle((left, top, left + TILE, top + TILE), outline="#cccccc")
        _caption(draw, left, top + TILE + 3, number + 1, hit)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
