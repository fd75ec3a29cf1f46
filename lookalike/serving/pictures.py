"""Pictures on both sides: those that come with a query, and those of the catalogue that are shown.

A stored picture is sent only when its header shows a format of the allow-list, so that the server never sends a file
of another kind under an item's name.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lookalike.contracts.encoder import Picture
from lookalike.contracts.errors import BadQuery, NotFound
from lookalike.contracts.product import Refusal
from lookalike.contracts.query import Box
from lookalike.contracts.settings import IntakeSettings


@dataclass(frozen=True)
class StoredPicture:
    """A picture to send: a file of the store, or bytes that were read from elsewhere."""

    media_type: str
    etag: str
    path: Path | None = None
    data: bytes | None = None


def query_decoder(limits: IntakeSettings) -> Callable[[bytes, Box | None], Picture]:
    """A decoder for pictures of queries, under the same limits as pictures of the catalogue."""

    def decode(data: bytes, box: Box | None = None) -> Picture:
        from lookalike.catalogue.intake import decode_picture, inspect_picture

        info = inspect_picture(data, limits)
        if isinstance(info, Refusal):
            raise BadQuery(f"the picture was not taken ({info.reason}): {info.detail}")
        return decode_picture(data, box)

    return decode


def stored_picture(image_path: str, content_hash: str, pictures_root: Path, limits: IntakeSettings) -> StoredPicture:
    """Find an item's picture. A relative path must lie below the store, links included. Raises NotFound."""
    if "://" in image_path or Path(image_path).is_absolute():
        return _picture_elsewhere(image_path, pictures_root, limits)
    root = pictures_root.resolve()
    path = (root / image_path).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise NotFound("the picture of this item is not in the picture store")
    with path.open("rb") as file:
        return StoredPicture(_media_type(file, limits), f'"{content_hash}"', path=path)


def _picture_elsewhere(image_path: str, pictures_root: Path, limits: IntakeSettings) -> StoredPicture:
    from lookalike.catalogue.intake import read_picture

    data = read_picture(image_path, pictures_root, limits)
    if isinstance(data, Refusal):
        raise NotFound(f"the picture of this item cannot be read now ({data.reason})")
    # It may have changed since it was ingested: the tag is that of the bytes which are sent.
    etag = f'"{hashlib.sha256(data).hexdigest()}"'
    return StoredPicture(_media_type(io.BytesIO(data), limits), etag, data=data)


def _media_type(file: io.BufferedReader | io.BytesIO, limits: IntakeSettings) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=limits.picture_formats) as image:  # reads the header only
            media_type = Image.MIME.get(image.format or "")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        media_type = None
    if media_type is None:
        raise NotFound(f"the stored file is not a picture of an allowed format ({', '.join(limits.picture_formats)})")
    return media_type
