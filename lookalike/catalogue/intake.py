"""Pictures in: read bytes from where they lie, check them before and by decoding, decode to RGB.

The cheap checks come first (bytes while reading, format and pixels from the header), so that a hostile file is refused
before anything large is decoded. Every refusal is a value with its reason, never an exception: a batch goes on.
"""

import hashlib
import io
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lookalike.contracts.encoder import Picture
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.query import Box
from lookalike.contracts.settings import IntakeSettings

_CHUNK = 2**18
_FIRST_PAUSE_SECONDS = 0.25
_WHITE = (255, 255, 255, 255)
_BROKEN = Exception
"""What Pillow's many format parsers raise on a broken file: nearly anything."""


@dataclass(frozen=True)
class PictureInfo:
    """What a checked picture is. `width` and `height` in pixels as stored, before EXIF orientation."""

    width: int
    height: int
    format: str
    content_hash: str  # sha256 of the bytes


def read_picture(
    image_path: str,
    pictures_root: Path | str,
    limits: IntakeSettings,
    tries: int | None = None,
    timeout: float | None = None,
) -> bytes | Refusal:
    """Bytes of a picture: a path below `pictures_root`, an absolute path, or a file://, http(s)://, s3://, gs:// URI.

    A relative path may not leave the store; http(s) reaches public addresses and `limits.private_networks` only. Never
    reads more than the allowed bytes. A fault that may pass (PICTURE_UNAVAILABLE) is met by up to `tries` tries with a
    growing pause; each http(s) try ends after `timeout` seconds. Defaults: those of `limits`.
    """
    tries = limits.fetch_tries if tries is None else tries
    timeout = limits.fetch_timeout_seconds if timeout is None else timeout
    pause = _FIRST_PAUSE_SECONDS
    while True:
        found = _read_once(image_path, Path(pictures_root), limits, timeout)
        tries -= 1
        passing = isinstance(found, Refusal) and found.reason is RefusalReason.PICTURE_UNAVAILABLE
        if not passing or tries < 1:
            return found
        time.sleep(pause)
        pause *= 2


def _read_once(image_path: str, root: Path, limits: IntakeSettings, timeout: float) -> bytes | Refusal:
    scheme = image_path.partition("://")[0].lower() if "://" in image_path else ""
    reason = RefusalReason.PICTURE_MISSING
    try:
        if scheme in ("http", "https"):
            from lookalike.catalogue.fetch import fetch

            return fetch(image_path, limits, timeout)
        with _open(image_path, scheme, root) as stream:
            return _read_limited(stream, image_path, limits)
    except FileNotFoundError:
        return Refusal(reason, f"there is no picture at {image_path}")
    except ImportError as error:
        return Refusal(
            reason, f"{image_path} needs a package that is not installed ({error.name}): pip install 'lookalike[cloud]'"
        )
    except Exception as error:  # stores raise their own classes; one picture must not end the job
        if scheme not in ("", "file") and not isinstance(error, PermissionError | ValueError):
            reason = RefusalReason.PICTURE_UNAVAILABLE  # a store in the network that does not answer as it should
        return Refusal(reason, f"{image_path} cannot be read: {type(error).__name__}: {error}")


def inspect_picture(data: bytes, limits: IntakeSettings) -> PictureInfo | Refusal:
    """Check a picture: bytes, format on the allow-list, pixels by the header, then a full decode."""
    if len(data) > limits.max_picture_bytes:
        return _too_many_bytes(f"{len(data):,}", limits)
    image = _open_header(data, limits)
    if isinstance(image, Refusal):
        return image
    with image:
        width, height, name = image.width, image.height, image.format or ""
        if width * height > limits.max_picture_pixels:
            return Refusal(
                RefusalReason.PICTURE_TOO_MANY_PIXELS,
                f"the header says {width} x {height} pixels, allowed are {limits.max_picture_pixels:,} in all",
            )
        try:
            image.load()
        except _BROKEN as error:
            return Refusal(RefusalReason.PICTURE_UNREADABLE, f"the {name} picture is truncated or corrupt: {error}")
    return PictureInfo(width, height, name, hashlib.sha256(data).hexdigest())


def decode_picture(data: bytes, box: Box | None = None) -> Picture:
    """First frame as uint8 RGB, shape (height, width, 3): EXIF orientation applied, transparency on white, cropped.

    For bytes that `inspect_picture` accepted; others raise what Pillow raises. A crop keeps at least one pixel.
    """
    with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
        warnings.simplefilter("ignore")
        image.load()
        try:
            upright = ImageOps.exif_transpose(image)
        except _BROKEN:  # corrupt EXIF does not make the pixels bad
            upright = image.copy()
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    else:
        rgb = _eight_bit(upright).convert("RGB")
    if box is not None:
        left = min(int(box.left * rgb.width), rgb.width - 1)
        top = min(int(box.top * rgb.height), rgb.height - 1)
        right = max(left + 1, min(rgb.width, round((box.left + box.width) * rgb.width)))
        bottom = max(top + 1, min(rgb.height, round((box.top + box.height) * rgb.height)))
        rgb = rgb.crop((left, top, right, bottom))
    return np.asarray(rgb, dtype=np.uint8)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits by scaling: Pillow's own conversion clips everything above 255 to white."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, dtype=np.int64).clip(0, 65_535) >> 8).astype(np.uint8))
    return image


def _open_header(data: bytes, limits: IntakeSettings) -> Image.Image | Refusal:
    allowed = ", ".join(limits.picture_formats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit on pixels is the stricter one
        try:
            return Image.open(io.BytesIO(data), formats=limits.picture_formats)
        except UnidentifiedImageError:
            pass
        except Image.DecompressionBombError as error:
            return Refusal(RefusalReason.PICTURE_TOO_MANY_PIXELS, f"{error}; allowed are {limits.max_picture_pixels:,}")
        except _BROKEN as error:
            return Refusal(RefusalReason.PICTURE_UNREADABLE, f"the picture's header is corrupt: {error}")
        try:
            with Image.open(io.BytesIO(data)) as other:
                return Refusal(RefusalReason.PICTURE_FORMAT, f"format {other.format} is not allowed: {allowed}")
        except Image.DecompressionBombError:
            return Refusal(RefusalReason.PICTURE_FORMAT, f"the format is not one of those allowed: {allowed}")
        except _BROKEN:
            return _unknown_bytes(data, allowed)


def _unknown_bytes(data: bytes, allowed: str) -> Refusal:
    if not data:
        return Refusal(RefusalReason.PICTURE_UNREADABLE, "the picture is empty (0 bytes)")
    # A file that starts like an allowed format is a broken picture, anything else is not a picture of ours.
    starts = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
    if data.startswith(starts) or data[4:12] == b"ftypavif":
        return Refusal(RefusalReason.PICTURE_UNREADABLE, "the picture's header is truncated or corrupt")
    return Refusal(RefusalReason.PICTURE_FORMAT, f"the bytes are not a picture of an allowed format: {allowed}")


def _open(image_path: str, scheme: str, root: Path) -> IO[bytes]:
    if scheme == "":
        path = Path(image_path)
        if not path.is_absolute():
            path = (root / image_path).resolve()
            if not path.is_relative_to(root.resolve()):
                raise ValueError("a relative path may not leave the picture store")
        return path.open("rb")
    if scheme == "file":
        return Path(unquote(urlsplit(image_path).path)).open("rb")
    import fsspec

    remote: IO[bytes] = fsspec.open(image_path, "rb").open()
    return remote


def _read_limited(stream: IO[bytes], image_path: str, limits: IntakeSettings) -> bytes | Refusal:
    kept = bytearray()
    while chunk := stream.read(min(_CHUNK, limits.max_picture_bytes + 1 - len(kept))):
        kept += chunk
        if len(kept) > limits.max_picture_bytes:
            return _too_many_bytes(f"{image_path} has more than {limits.max_picture_bytes:,}", limits)
    return bytes(kept)


def _too_many_bytes(what: str, limits: IntakeSettings) -> Refusal:
    return Refusal(RefusalReason.PICTURE_TOO_MANY_BYTES, f"{what} bytes; allowed are {limits.max_picture_bytes:,}")
