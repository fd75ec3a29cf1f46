import io
import random
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from lookalike.catalogue.intake import PictureInfo, decode_picture, inspect_picture, read_picture
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.query import Box
from lookalike.contracts.settings import IntakeSettings

LIMITS = IntakeSettings()


def reason(result):
    assert isinstance(result, Refusal), result
    return result.reason


def png_claiming(width, height) -> bytes:
    """A PNG whose header promises a size that its few bytes of data do not hold."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_allowed_formats_are_described(encode, form):
    data = encode(form, size=(24, 16))
    info = inspect_picture(data, LIMITS)
    assert isinstance(info, PictureInfo)
    assert (info.width, info.height, info.format, len(info.content_hash)) == (24, 16, form, 64)
    assert np.abs(decode_picture(data).astype(int) - [200, 30, 40]).max() <= 6


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_unreadable(form, kept):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, form)
    data = buffer.getvalue()
    assert reason(inspect_picture(data[: int(kept * len(data))], LIMITS)) is RefusalReason.PICTURE_UNREADABLE


def test_a_bomb_is_refused_by_its_header_before_decoding(monkeypatch):
    def never(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    for side in (8_000, 50_000):  # below and above Pillow's own bar
        refused = inspect_picture(png_claiming(side, side), LIMITS)
        assert reason(refused) is RefusalReason.PICTURE_TOO_MANY_PIXELS
        assert "50,000,000" in refused.detail


def test_pixels_at_the_limit_are_allowed(encode):
    data = encode(size=(10, 10))
    assert isinstance(inspect_picture(data, IntakeSettings(max_picture_pixels=100)), PictureInfo)
    assert reason(inspect_picture(data, IntakeSettings(max_picture_pixels=99))) is RefusalReason.PICTURE_TOO_MANY_PIXELS


def test_a_format_that_is_not_on_the_list_is_refused_whatever_its_name(encode):
    refused = inspect_picture(encode("PPM"), LIMITS)
    assert reason(refused) is RefusalReason.PICTURE_FORMAT
    assert "PPM" in refused.detail
    only_png = IntakeSettings(picture_formats=("PNG",))
    assert reason(inspect_picture(encode("JPEG"), only_png)) is RefusalReason.PICTURE_FORMAT
    assert reason(inspect_picture(b"<svg xmlns='x'/>", LIMITS)) is RefusalReason.PICTURE_FORMAT
    assert reason(inspect_picture(b"", LIMITS)) is RefusalReason.PICTURE_UNREADABLE


def test_transparency_is_composed_on_white():
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 128))
    half.putpixel((1, 0), (0, 0, 0, 0))
    buffer = io.BytesIO()
    half.save(buffer, "PNG")
    assert decode_picture(buffer.getvalue()).tolist() == [[[127, 127, 127], [255, 255, 255]]]


def test_a_transparent_palette_is_composed_on_white():
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    assert decode_picture(buffer.getvalue()).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_sixteen_bit_grey_is_scaled_not_clipped():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16)).save(buffer, "PNG")
    assert decode_picture(buffer.getvalue())[0, :, 0].tolist() == [0, 128, 255]


def test_exif_orientation_is_applied():
    picture = Image.new("RGB", (30, 20), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 10, 20))  # black at the left
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: the left edge becomes the top
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif, quality=95)
    decoded = decode_picture(buffer.getvalue())
    assert decoded.shape == (30, 20, 3)
    assert decoded[:8].max() < 40
    assert decoded[14:].min() > 200


def test_a_crop_is_in_fractions_and_keeps_at_least_one_pixel(encode):
    picture = np.zeros((10, 20, 3), dtype=np.uint8)
    picture[2:5, 10:20] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    crop = decode_picture(buffer.getvalue(), Box(left=0.5, top=0.2, width=0.5, height=0.3))
    assert crop.shape == (3, 10, 3)
    assert crop.min() == 255
    tiny = decode_picture(buffer.getvalue(), Box(left=0.999, top=0.999, width=0.001, height=0.001))
    assert tiny.shape == (1, 1, 3)


def test_local_paths_are_read_and_may_not_leave_the_store(tmp_path, encode):
    store = tmp_path / "pictures"
    (store / "ab").mkdir(parents=True)
    (store / "ab" / "x y.png").write_bytes(encode())
    (tmp_path / "secret.png").write_bytes(encode())
    assert read_picture("ab/x y.png", store, LIMITS) == encode()
    assert read_picture(str(store / "ab" / "x y.png"), "elsewhere", LIMITS) == encode()
    assert read_picture(f"file://{store}/ab/x%20y.png", store, LIMITS) == encode()
    for path in ("../secret.png", "ab/../../secret.png", "ab/none.png", "ab", "nothing://x"):
        assert reason(read_picture(path, store, LIMITS)) is RefusalReason.PICTURE_MISSING


def test_reading_stops_at_the_limit_of_bytes(tmp_path):
    (tmp_path / "x").write_bytes(bytes(101))
    limits = IntakeSettings(max_picture_bytes=100)
    assert reason(read_picture("x", tmp_path, limits)) is RefusalReason.PICTURE_TOO_MANY_BYTES
    assert reason(inspect_picture(bytes(101), limits)) is RefusalReason.PICTURE_TOO_MANY_BYTES
    (tmp_path / "x").write_bytes(bytes(100))
    assert read_picture("x", tmp_path, limits) == bytes(100)


def test_pictures_of_a_store_that_fsspec_knows(tmp_path, encode):
    import fsspec

    fsspec.filesystem("memory").pipe("/shop/a.png", encode())
    assert read_picture("memory://shop/a.png", tmp_path, LIMITS) == encode()
    assert reason(read_picture("memory://shop/b.png", tmp_path, LIMITS)) is RefusalReason.PICTURE_MISSING


def test_a_store_that_does_not_answer_may_answer_again(tmp_path, monkeypatch):
    import fsspec

    calls = []

    def failing(*_):
        calls.append(time.monotonic())
        raise OSError("the bucket's host is away")

    monkeypatch.setattr(fsspec, "open", failing)
    monkeypatch.setattr("lookalike.catalogue.intake._FIRST_PAUSE_SECONDS", 0.02)
    refused = read_picture("s3://shop/a.png", tmp_path, IntakeSettings(fetch_tries=3))
    assert reason(refused) is RefusalReason.PICTURE_UNAVAILABLE
    assert len(calls) == 3
    assert calls[1] - calls[0] >= 0.02
    assert calls[2] - calls[1] >= 0.04
    calls.clear()
    assert reason(read_picture("s3://shop/a.png", tmp_path, LIMITS, tries=1)) is RefusalReason.PICTURE_UNAVAILABLE
    assert len(calls) == 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_damaged_bytes_give_a_refusal_or_a_picture_and_never_an_error(form):
    rng = random.Random(form)
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, form)
    whole = buffer.getvalue()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(len(data), rng.choice([40, 200, len(data)])))] = rng.randrange(256)
        info = inspect_picture(bytes(data), LIMITS)
        assert isinstance(info, PictureInfo | Refusal)
        if isinstance(info, PictureInfo):
            assert decode_picture(bytes(data)).ndim == 3
