"""Names from data and files cannot control the terminal, write lines of their own, or end a command."""

import io
import json
import os
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import draw_image, trained_run

import frcnn
from frcnn.cli import main
from frcnn.cli.printable import EscapingStream

CONTROL_SEQUENCES = "\x1b[2J\x1b]0;title\x07all fine\nerrors: 0\u202e"
BOX = [5, 5, 40, 40]


def write_coco(folder: Path, *names: str, class_name: str = "red") -> Path:
    """Images of these names (those that can be written), and annotations of all."""
    folder.mkdir()
    images = []
    for number, name in enumerate(names):
        if "\0" not in name and "://" not in name:
            draw_image([("red", (5, 5, 45, 45))], seed=number).save(folder / name, "PNG")
        images.append({"id": number, "file_name": name})
    objects = [{"id": number, "image_id": number, "bbox": BOX, "category_id": 1} for number in range(1, len(names))]
    objects.append({"id": len(names), "image_id": 0, "bbox": [*BOX[:2], -3, 4], "category_id": 1})  # to be reported
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": class_name}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What a command printed: no control characters, and no line that a name wrote."""
    output = capsys.readouterr()
    text = output.out + output.err
    assert not [each for each in text if each not in "\n\t\r" and not each.isprintable()]
    assert not any(line.lstrip().startswith("errors: 0") for line in text.split("\n"))
    return text


@pytest.mark.parametrize("command", ["check", "plan"])
def test_class_names(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_coco(tmp_path / "data", *(f"{number}.png" for number in range(12)), class_name=CONTROL_SEQUENCES)
    main([command, str(data)])
    text = said(capsys)
    assert ("all fine" in text) == (command == "check")


def test_class_names_are_repaired_and_reported(tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data", "0.png", "1.png", class_name="ripe\nfruit\x1b[1m")
    report = frcnn.check(data)
    problems = [each for each in report.problems if each.kind == "control characters in a class name"]
    assert [each.level for each in problems] == ["repaired"] * 2
    assert problems[0].message == r"the class 'ripe\nfruit\x1b[1m' has control characters; it becomes 'ripe fruit [1m'"
    assert list(report.repaired["train"].class_counts) == ["ripe fruit [1m"]


def test_file_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2J\nerrors: 0.png"
    data = write_coco(tmp_path / "data", name, "1.png")
    main(["check", str(data)])
    assert r"a\u001b[2J\nerrors: 0.png" in said(capsys)
    assert main(["check", str(tmp_path / "nowhere\x1b[2J")]) == 2
    assert r"nowhere\u001b[2J: no such folder of data" in said(capsys)


def test_a_file_name_cannot_write_a_line_of_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a\nb.png", "c\nfrcnn: error: d.png"):
        draw_image([]).save(tmp_path / name)
    (tmp_path / "e\nf.png").write_bytes(b"no image")
    assert main(["predict", str(trained_run()), str(tmp_path)]) == 1
    output = capsys.readouterr()
    for text in (r"/a\nb.png: ", r"/c\nfrcnn: error: d.png: "):
        assert text in output.out
    assert r"/e\nf.png: not an image" in output.err


def test_a_single_photo_cannot_write_a_line_of_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "a\nerrors: 0.png"
    photo.write_bytes(b"no image")
    assert main(["predict", str(trained_run()), str(photo)]) == 2
    assert r"/a\nerrors: 0.png: not an image" in said(capsys)


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_name_on_the_command_line_cannot_imitate_a_message(end: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A shell completes `*` to names of files."""
    name = f"a{end}frcnn: error: b"
    for arguments in (["check", name], ["predict", name, "c.png"], ["evaluate", name], ["config", "--config", name]):
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if line.startswith("frcnn: ")] == lines[:1]
    with pytest.raises(SystemExit):
        main(["check", "data", name])
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"unrecognized arguments: {name!r}".replace("'", ""))


@pytest.mark.parametrize("name", ["x\nerrors: 0", "x\rerrors: 0", "x\x1b[2J", "x\u2028errors: 0", "x\u202e"])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_class_names_of_a_model(command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original, file = trained_run() / "model.safetensors", tmp_path / "model.safetensors"
    with safe_open(original, framework="pt") as opened:
        metadata = opened.metadata()
    save_file(load_file(original), file, {**metadata, "classes": json.dumps(["blue", name])})
    photo = tmp_path / "photo.png"
    draw_image([("red", (10, 12, 60, 70))]).save(photo)
    more = [str(photo), "--threshold", "0"] if command == "predict" else ["--data", str(trained_run().parent / "data")]
    assert main([command, str(file), *more, "--json", "-"]) == 2
    text = said(capsys)
    assert f"{file}: damaged, its classes are ['blue', {name!r}]" in text
    assert "without control characters" in text
    assert "\r" not in text


def test_names_of_annotation_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_coco(tmp_path / "data", "0.png", "1.png")
    (data / "annotations.json").rename(data / "a\n0 errors.json")
    (data / "notes\nfrcnn: error: x.json").write_text("{}")
    main(["check", str(data)])
    text = said(capsys)
    assert r"annotations: a\n0 errors.json" in text
    assert r"notes\nfrcnn: error: x.json" in text
    (data / "a\n0 errors.json").write_bytes((data / "a\n0 errors.json").read_bytes()[:-3])
    main(["check", str(data)])
    assert r"a\n0 errors.json" in said(capsys)


@pytest.mark.parametrize("name", ["http://[1.png", "1\0.png", "\ud83d.png"])
def test_invalid_file_names_are_missing_images(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_coco(tmp_path / "data", "0.png", "2.png") if "\ud83d" in name else None
    if data is None:
        data = write_coco(tmp_path / "data", "0.png", name)
    else:
        text = (data / "annotations.json").read_text()
        (data / "annotations.json").write_text(text.replace("2.png", r"\ud83d.png"))
    main(["check", str(data)])
    assert "missing image" in said(capsys)


def test_file_names_that_are_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_coco(tmp_path / "data", "0.png", "1.png")
    os.rename(data / "1.png", os.fsencode(data) + b"/\xff.png")
    for file in ("-", str(tmp_path / "report.json")):
        main(["check", str(data), "--json", file])
        text = capsys.readouterr().out if file == "-" else Path(file).read_text()
        problems = json.loads(text)["problems"]
        assert any(each["path"] == "\udcff.png" for each in problems)


def test_pipes_are_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_coco(tmp_path / "data", "0.png", "1.png")
    for name in ("2.png", "more.json", "0.xml"):
        os.mkfifo(data / name)
    main(["check", str(data)])
    assert "pipes, devices and broken entries (3)" in said(capsys)
    (data / "annotations.json").write_text((data / "annotations.json").read_text().replace("1.png", "2.png"))
    main(["check", str(data)])
    assert "missing image" in said(capsys)
    for arguments in (
        ["predict", str(data / "0.xml"), str(data / "0.png")],
        ["config", "--config", str(data / "0.xml")],
        ["check", str(data / "more.json")],
    ):
        assert main(arguments) == 2
        said(capsys)


def test_what_finds_standard_error_cannot_close_it() -> None:
    stream = io.StringIO()
    EscapingStream(stream).close()
    assert not stream.closed
