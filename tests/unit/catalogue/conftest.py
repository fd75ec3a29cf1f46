"""Small real pictures and settings for the catalogue's tests."""

import io

import pytest
from PIL import Image

from lookalike.contracts.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def encode():
    """encode("PNG", size=(8, 6), colour=..., mode="RGB") -> bytes of a picture of one colour."""

    def encoded(form="PNG", size=(8, 6), colour=(200, 30, 40), mode="RGB", **options) -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, colour).save(buffer, form, **options)
        return buffer.getvalue()

    return encoded
