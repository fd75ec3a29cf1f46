import hashlib

import pytest

from lookalike.catalogue.intake import decode_picture
from lookalike.catalogue.render import Renderer, render_svg
from lookalike.contracts.progress import LogProgress

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><path fill="{}" d="M0 0h4v2H0z"/></svg>'


@pytest.fixture
def step():
    with LogProgress().step("render") as running:
        yield running


def test_a_small_drawing_has_the_right_pixels():
    pixels = decode_picture(render_svg(SVG.format("#00f")))
    assert pixels[:2].reshape(-1, 3).tolist() == [[0, 0, 255]] * 8
    assert pixels[2:].reshape(-1, 3).tolist() == [[255, 255, 255]] * 8


def test_pictures_are_named_by_content_and_the_second_run_renders_nothing(tmp_path, step):
    documents = [SVG.format(colour) for colour in ("red", "#f00", "blue")]
    with Renderer(tmp_path, workers=1) as first:
        paths = first.render(documents, step)
    assert first.rendered == 3
    assert paths[0] == paths[1] != paths[2]
    for path in paths:
        digest = hashlib.sha256((tmp_path / path).read_bytes()).hexdigest()
        assert path == f"{digest[:2]}/{digest}.png"
    with Renderer(tmp_path, workers=1) as second:
        assert second.render(documents, step) == paths
    assert second.rendered == 0


def test_a_lost_picture_and_a_torn_line_are_rendered_again(tmp_path, step):
    with Renderer(tmp_path, workers=1) as renderer:
        path, other = renderer.render([SVG.format("red"), SVG.format("blue")], step)
    (tmp_path / path).unlink()
    listed = next(tmp_path.glob("*.tsv"))
    listed.write_text(listed.read_text()[:-10])
    with Renderer(tmp_path, workers=1) as renderer:
        assert renderer.render([SVG.format("red"), SVG.format("blue")], step) == [path, other]
    assert renderer.rendered == 2
    assert (tmp_path / path).is_file()


def test_what_cannot_be_drawn_is_left_out_and_counted(tmp_path, step):
    with Renderer(tmp_path, workers=1) as renderer:
        bad, good = renderer.render(["<svg", SVG.format("red")], step)
    assert (bad, renderer.failed, renderer.rendered) == (None, 1, 1)
    assert good
