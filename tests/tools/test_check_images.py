"""What `frcnn check` does with single image files: it opens each once, and draws every letter."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import draw_image

from frcnn.config import DataSettings
from frcnn.data.near_duplicates import hash_image
from frcnn.data.records import Record, make_record
from frcnn.tools.check import pictures
from frcnn.tools.check.images import inspect_image

PHOTO = draw_image([("red", (10, 12, 60, 70))])


def record_of(path: Path, *names: str) -> Record:
    return make_record(path, [((10, 12, 60, 70), name) for name in names])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_image_is_opened_once(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"photo.{suffix}"
    PHOTO.save(path)
    expected, opened, real = hash_image(path), [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: opened.append(args) or real(*args, **options))
    inspected = inspect_image(record_of(path, "a"), DataSettings())
    assert len(opened) == 1
    assert (inspected.size, inspected.problems) == ((96, 128), [])
    assert expected is not None
    assert inspected.hash is not None
    assert inspected.hash.digest == expected.digest
    np.testing.assert_array_equal(inspected.hash.gray, expected.gray)


def jpeg() -> bytes:
    content = BytesIO()
    PHOTO.save(content, "JPEG")
    return content.getvalue()


def test_what_was_done_with_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:-3])
    (tmp_path / "jpeg.png").write_bytes(jpeg())
    Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 16).save(tmp_path / "twelve.tif")
    Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257).save(tmp_path / "sixteen.tif")
    Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.float32)).save(tmp_path / "float.tif")
    PHOTO.convert("L").convert("CMYK").save(tmp_path / "cmyk.jpg")
    said = {}
    for path in tmp_path.iterdir():
        problems = inspect_image(record_of(path, "a"), DataSettings()).problems
        said[path.name] = [(problem.level, problem.kind) for problem in problems]
    assert said == {
        "cut.jpg": [("repaired", "truncated image")],
        "jpeg.png": [("warning", "suffix of another format")],
        "twelve.tif": [("warning", "guessed range of values")],
        "sixteen.tif": [("warning", "more than 8 bits")],
        "float.tif": [("warning", "guessed range of values")],
        "cmyk.jpg": [("warning", "unusual mode")],
    }


def test_contact_sheets_show_letters_of_other_languages(tmp_path: Path) -> None:
    """A font that lacks them draws the same square for each."""
    lines = []
    for number, name in enumerate(("\u0434\u043e\u043c", "\u043a\u043e\u0442")):
        path = tmp_path / f"{number}.png"
        PHOTO.save(path)
        cell = pictures._cell(record_of(path, name))
        lines.append(cell.crop((0, pictures.CELL[1] + 17, *cell.size)))
    assert lines[0].tobytes() != lines[1].tobytes()
