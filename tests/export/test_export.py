"""Files that are the same model, and invalid options."""

import contextlib
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import draw_image, tiny_model, write_annotated
from torch import nn

import frcnn
from frcnn.cli import main
from frcnn.config import dump_yaml, make_config
from frcnn.data.images import read_image
from frcnn.data.transforms import PaddedBatch, prepare_images
from frcnn.export import export as exporting
from frcnn.export.export import Export, export
from frcnn.fast.svd import compress
from frcnn.files import PARTIAL, atomic_write_all
from frcnn.inference.description import OUTPUTS
from frcnn.inference.evaluator import Evaluator
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import DESCRIPTION_FILE, Exported, open_runtime, openvino_core
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.model_file import load_model
from frcnn.nn.model_info import least_side

Make = Callable[..., Export]

ALL = [
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "fp16"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("torch", "fp32"),
    ("torch", "fp16"),
    ("torch", "bf16"),
]


def predict(model: FasterRCNN | Exported | Path, images: Path | list[Path], threshold: float = 0.5) -> list[Detections]:
    detector = frcnn.load(model, trust=True) if isinstance(model, Path) else frcnn.Detector(model)
    return list(detector.predict_iter(images, threshold=threshold))


def assert_same(found: list[Detections], expected: list[Detections], *, pixels: float = 0.05) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert len(other) > 0
        np.testing.assert_array_equal(one.class_name, other.class_name)
        np.testing.assert_allclose(one.xyxy, other.xyxy, rtol=0, atol=pixels)
        np.testing.assert_allclose(one.confidence, other.confidence, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("to", "precision"), ALL)
def test_every_kind_of_file_is_verified_and_detects(
    to: str, precision: str, exported: Make, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = exported(to, precision=precision)
    assert repr(done) == f"<Export {' and '.join(map(str, done.files))}: verified, see {done.verification}>"
    verification = json.loads(done.verification.read_text())
    assert [one["name"] for one in verification["runs"]] == ["one by one", "3 at once", "smaller"]
    assert verification["photos_without_objects"] == 1
    assert len(verification["photos"]) == 7  # all there are
    assert verification["runs"][0]["map50_pytorch"] == 1.0
    assert set(verification["sha256"]) == {file.name for file in done.files}
    for one in verification["runs"]:
        assert one["detections"] >= 7
        if precision == "fp32":
            assert one["without_match"] == 0
            assert one["largest_box_difference_px"] <= 0.05
        else:
            assert one["map50"] >= one["map50_pytorch"] - 0.1
    assert ("quantization" in verification) == (precision == "int8")

    photo = str(run.parent / "data" / "testImages" / "4.png")
    (expected,), (found,) = predict(run, photo), predict(done.files[0], photo)
    assert {"red", "blue"} == set(found.class_name) == set(expected.class_name)
    if precision == "fp32":
        assert_same([found], [expected])
    measure = ["evaluate", str(done.files[0]), "--trust-file", "--data", str(run.parent / "data"), "--json", "-"]
    assert main(measure) == 0
    assert json.loads(capsys.readouterr().out)["map50"] >= (0.99 if precision == "fp32" else 0.9)


def test_openvino_computes_in_bfloat16_where_the_cpu_does(exported: Make, photos: list[Path]) -> None:
    native = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    (half,), (full,) = (predict(exported("openvino", precision=p).files[0], photos[0]) for p in ("bf16", "fp32"))
    assert np.array_equal(half.xyxy, full.xyxy) != native


def test_a_signal_does_not_end_a_process_that_has_closed_openvino_files(exported: Make) -> None:
    """In the order in which they were opened."""
    code = (
        "import gc, os, signal, sys, frcnn; signal.signal(signal.SIGINT, lambda *_: print('Ctrl-C')); "
        "first, second = map(frcnn.load, sys.argv[1:] * 2); del first; gc.collect(); del second; gc.collect(); "
        "os.kill(os.getpid(), signal.SIGINT)"
    )
    command = [sys.executable, "-c", code, exported("openvino").files[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "Ctrl-C\n"), done.stderr


def test_lower_precision_makes_smaller_files(exported: Make) -> None:
    def size(to: str, precision: str) -> int:
        return sum(file.stat().st_size for file in exported(to, precision=precision).files)

    assert size("onnx", "fp16") < 0.6 * size("onnx", "fp32")
    assert size("onnx", "int8") < 0.4 * size("onnx", "fp32")
    assert size("openvino", "fp16") < 0.6 * size("openvino", "fp32")
    assert size("openvino", "int8") < 0.6 * size("openvino", "fp32")
    assert size("torch", "bf16") < 0.65 * size("torch", "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_onnx_has_standard_operators_and_sizes_with_names(precision: str, exported: Make) -> None:
    model = onnx.load(exported("onnx", precision=precision).files[0])
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "images": ["batch", "height", "width", 3],
        "image_sizes": ["batch", 2],
        "original_sizes": ["batch", 2],
        "boxes": ["batch", 20, 4],
        "scores": ["batch", 20],
        "labels": ["batch", 20],
        "valid": ["batch", 20],
    }
    assert str(Path.cwd()) not in model.SerializeToString().decode("latin1")  # nothing of where it was made


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_a_batch_gives_what_its_photos_give_alone(to: str, exported: Make, photos: list[Path]) -> None:
    file = Exported(exported(to).files[0], trust=True)
    images = [read_image(photo) for photo in photos * 2][:5]
    frames = prepare_images(images, file.resizing)
    alone = [file.detect(type(frames)(*(array[n : n + 1] for array in frames))).detections[0] for n in range(5)]
    assert_same(file.detect(frames).detections, alone, pixels=0.01)
    assert len({one.xyxy.tobytes() for one in alone}) == 3  # three photos


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_several_images_at_a_time_give_what_one_after_the_other_gives(
    to: str, exported: Make, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    torch.set_num_threads(4)
    file = exported(to).files[0]
    assert Exported(file, trust=True).parallel_calls == 1
    runtime = Exported(file, trust=True, throughput=True)
    assert runtime.parallel_calls == 4
    assert pickle.loads(pickle.dumps(runtime)).parallel_calls == runtime.parallel_calls
    run, running, most = runtime.run, set[int](), 0

    def watched(frames: PaddedBatch) -> dict[str, np.ndarray]:
        nonlocal most
        running.add(threading.get_ident())
        most = max(most, len(running))
        outputs = run(frames)
        time.sleep(0.05)
        running.discard(threading.get_ident())
        return outputs

    monkeypatch.setattr(runtime, "run", watched)
    many = 4 * photos
    assert_same(list(frcnn.Detector(runtime).predict_iter(many, threshold=0.1)), predict(file, many, 0.1), pixels=1e-3)
    assert most == runtime.parallel_calls


@pytest.mark.parametrize(("threads", "calls"), [(1, 1), (2, 2), (6, 3), (16, 4), (17, 4)])
def test_parallel_calls_of_onnx_runtime_use_all_threads(
    threads: int, calls: int, exported: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session has a pool of all its threads but one, for all calls together; each call brings its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    opened: list[int] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: onnxruntime.SessionOptions, **others: object) -> None:
            opened.append(options.intra_op_num_threads)
            super().__init__(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert Exported(exported("onnx").files[0], throughput=True).parallel_calls == calls
    assert opened[0] - 1 + calls == threads


def test_lack_of_memory_is_no_fault_of_an_image(
    exported: Make, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Exported(exported("onnx").files[0])

    def fail(inputs: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 4096")

    monkeypatch.setattr(runtime, "_run", fail)
    with pytest.raises(MemoryError, match="its runtime needs more memory than there is"):
        frcnn.Detector(runtime).predict(photos, on_error="skip")


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_raw_outputs_are_the_evaluators(to: str, exported: Make, run: Path, photos: list[Path]) -> None:
    file = Exported(exported(to, raw=True).files[0], trust=True)
    image = read_image(photos[1])
    frames = prepare_images([image], file.resizing)
    outputs, expected = file.run(frames), Evaluator(load_model(run, device="cpu"))(photos[1])
    assert set(OUTPUTS) < set(outputs)
    assert outputs["rois_valid"].tolist() == expected.valid.tolist()
    for name in ("rpn_rois", "cls_pred", "bbox_regr"):
        np.testing.assert_allclose(outputs[name], getattr(expected, name).numpy(), rtol=0, atol=0.01)


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_a_fixed_size_and_batch_takes_photos_of_any_size_and_number(
    to: str, exported: Make, run: Path, photos: list[Path]
) -> None:
    done = exported(to, image_size=(96, 160), batch=2, images_as="float")
    assert [one.name for one in done.runs] == ["one by one", "3 at once"]
    file = Exported(done.files[0], trust=True)
    assert (file.resizing.resize, file.description.batch, file.description.input) == ("fit", 2, "float")
    fitted = load_model(run, device="cpu")
    settings = fitted.settings.detector.image.model_copy(update={"resize": "fit", "height": 96, "width": 160})
    fitted.settings = fitted.settings.model_copy(
        update={"detector": fitted.settings.detector.model_copy(update={"image": settings})}
    )
    assert_same(predict(file, photos, threshold=0.01), predict(fitted, photos, threshold=0.01))


def test_onnx_of_a_fixed_size_says_so(exported: Make) -> None:
    model = onnx.load(exported("onnx", image_size=(96, 160), batch=2, images_as="float").files[0])
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [2, 3, 96, 160]


def test_a_file_that_is_not_the_same_model_is_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = exporting._in_layers

    def shifted(*arguments: object) -> nn.Module:
        model = honest(*arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            model.roi_head.deltas.bias.add_(0.02)  # 0.002 of a box's side to the right: tenths of a pixel
        return model

    monkeypatch.setattr(exporting, "_in_layers", shifted)
    (tmp_path / "model.onnx").write_bytes(b"an older one")
    assert main(["export", str(run), "--out", str(tmp_path / "model.onnx")]) == 2
    error = capsys.readouterr().err
    assert "not kept, because its detections differ from PyTorch's: one by one:" in error
    assert "without a match within 0.05 px" in error
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"an older one"


def test_the_folder_of_a_killed_export_is_removed_by_the_next_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.onnx"
    code = (
        "import os, sys; from frcnn.export import export as exporting; "
        "exporting.trace = lambda *_, **__: os._exit(9); exporting.export(sys.argv[1], out=sys.argv[2])"
    )
    assert subprocess.run([sys.executable, "-c", code, run, out], check=False).returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(PARTIAL)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "trace", stop)
    with pytest.raises(KeyboardInterrupt):
        export(run, out=out)
    assert not list(tmp_path.iterdir())


def test_loading_completes_the_replacement_that_a_killed_export_began(
    exported: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the graph of one export would run with the weights of another."""
    old, new = (exported("openvino", precision=precision).files for precision in ("fp32", "fp16"))
    file, weights = (Path(shutil.copy(each, tmp_path / f"model{each.suffix}")) for each in old)
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target) == weights:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt), atomic_write_all(file, weights) as partials:  # noqa: PT012
            for partial, each in zip(partials, new, strict=True):
                shutil.copy(each, partial)
    assert (file.read_bytes(), weights.read_bytes()) == (new[0].read_bytes(), old[1].read_bytes())
    frcnn.load(file)
    assert weights.read_bytes() == new[1].read_bytes()
    assert {each.name for each in tmp_path.iterdir()} == {"model.xml", "model.bin"}


def test_int8_that_loses_too_much_is_refused_unless_told(
    run: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gray = tmp_path / "gray"
    gray.mkdir()
    read_image(photos[0]).point(lambda value: 127).save(gray / "0.png")  # the mean: ranges that fit nothing else
    command = ["export", str(run), "--precision", "int8", "--calibrate", str(gray), "--out", str(tmp_path / "m.onnx")]
    assert main(command) == 2
    assert "the rule: AP at most 0.02 lower" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()
    assert main([*command, "--max-ap-loss", "1"]) == 0
    printed = capsys.readouterr().out
    assert "quantized: AP" in printed
    assert f"AP within the limit: {tmp_path / 'm.onnx'} " in printed
    assert json.loads((tmp_path / "m.onnx.verification.json").read_text())["rule"] == "AP at most 1.0 lower"


@pytest.mark.parametrize(("to", "precision"), [("onnx", "fp32"), ("openvino", "int8")])
def test_a_compressed_model_is_verified_and_its_cost_is_measured(
    to: str, precision: str, run: Path, exported: Make
) -> None:
    """The file is the compressed model, and that one is near the whole."""
    done = exported(to, precision=precision, svd=16)
    verification = json.loads(done.verification.read_text())
    assert [one["name"] for one in verification["runs"]] == ["one by one", "3 at once", "smaller"]
    assert verification["compression"]["name"] == "svd 16"
    assert verification["compression"]["rule"] == "AP at most 0.2 lower"
    assert verification["compression"]["map50_before"] == 1.0
    assert verification["compression"]["map50"] >= 0.9
    assert done.compressed is not None
    assert done.compressed.difference.without_match > 0  # it is another model than before
    assert ("quantization" in verification) == (precision == "int8")
    file = Exported(done.files[0], trust=True)
    assert (file.description.svd, Exported(exported(to).files[0], trust=True).description.svd) == (16, None)
    if precision == "fp32":
        assert [one["without_match"] for one in verification["runs"]] == [0, 0, 0]
        assert done.files[0].stat().st_size < 0.95 * exported(to).files[0].stat().st_size
        photo = run.parent / "data" / "testImages" / "4.png"
        assert_same(predict(file, photo), predict(compress(load_model(run, device="cpu"), 16), photo))


def test_a_compression_that_loses_too_much_is_refused_unless_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(run), "--svd", "1", "--out", str(tmp_path / "m.onnx")]
    assert main(command) == 2
    assert re.search(
        r"not kept, .*: svd 1: AP 0\.\d+ instead of 1\.0000; the rule: AP at most 0\.02 lower", capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())
    assert main([*command, "--max-ap-loss", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^compressed: AP 0\.\d+ \(before: 1\.0000\)", printed, flags=re.MULTILINE)
    assert f"AP within the limit: {tmp_path / 'm.onnx'} " in printed


def test_an_exported_file_is_not_compressed(exported: Make, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(exported("onnx").files[0])
    for command in (["predict", file, "x.jpg"], ["evaluate", file]):
        assert main([*command, "--svd", "16"]) == 2
        assert " is exported and cannot change; export the model again with --svd 16" in capsys.readouterr().err


def test_training_can_store_one(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frcnn.training import train as training

    class Log(frcnn.Callback):
        messages: ClassVar[list[str]] = []

        def on_export(self, message: str) -> None:
            self.messages.append(message)

    opened = []
    honest = training.open_dataset
    for module in (exporting, training):
        monkeypatch.setattr(module, "open_dataset", lambda *of: opened.append(of) or honest(*of))
    trained = training.train(
        run.parent / "data",
        out=tmp_path / "run",
        epochs=1,
        precision="fp32",
        settings={
            "STORE_EVAL_MODEL_WITH_NATIVE_UDF": True,
            "base_model.fc_channels": [16],
            "detector.image.shorter_side": 96,
            "detector.image.longer_side": 128,
        },
        offline=True,
        callbacks=[Log()],
    ).run_dir
    assert len(opened) == 1
    assert Log.messages == ["writing model.onnx", "verifying model.onnx on 7 photos"]
    assert (trained / "model.onnx.verification.json").is_file()
    photo = run.parent / "data" / "testImages" / "4.png"
    assert_same(predict(trained / "model.onnx", photo, threshold=0), predict(trained, photo, threshold=0))


def test_training_for_one_needs_its_packages_first(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frcnn.training.train import train

    monkeypatch.delitem(sys.modules, "frcnn.export.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModuleNotFoundError, match="onnxscript"):
        train(run.parent / "data", out=tmp_path / "run", settings={"train.export_native": True}, offline=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("model", "precision", "svd", "name"),
    [
        ("runs/x", "fp32", None, "model.onnx"),
        ("runs/x", "int8", None, "model-int8.onnx"),
        ("runs/x", "fp32", 512, "model-svd512.onnx"),
        ("runs/x", "int8", 512, "model-svd512-int8.onnx"),
        ("best.safetensors", "fp32", None, "best.onnx"),
        ("best.safetensors", "fp16", None, "best-fp16.onnx"),
        ("coco:fasterrcnn_resnet50_fpn", "int8", None, "fasterrcnn_resnet50_fpn-int8.onnx"),
    ],
)
def test_names_of_files(
    model: str, precision: str, svd: int | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x").mkdir(parents=True)
    folder = Path(model) if model.startswith("runs") else Path()
    assert exporting._path(model, "onnx", None, precision, svd) == folder / name


@pytest.mark.parametrize(
    ("test", "train", "negative", "counts"),
    [
        (3, 30, 0, (3, 7, 0)),  # training images until there are ten
        (12, 30, 0, (12, 0, 0)),
        (50, 5, 0, (20, 0, 0)),  # at most as many
        (12, 5, 2, (12, 0, 1)),  # one without objects, if there is one
        (2, 3, 0, (2, 3, 0)),  # all there are
    ],
)
def test_photos_of_the_verification(
    test: int, train: int, negative: int, counts: tuple[int, int, int], tmp_path: Path
) -> None:
    for part, number in (("testImages", test), ("positive", train)):
        for index in range(number):
            write_annotated(tmp_path / part / f"{index}.png", [("red", (5, 5, 50, 60))])
    for index in range(negative):
        (tmp_path / "negative").mkdir(exist_ok=True)
        draw_image([]).save(tmp_path / "negative" / f"{index}.png")
    found = exporting._photos(tiny_model().classes, exporting._open(tmp_path), 20)
    folders = [record.image.parent.name for record in found]
    assert tuple(map(folders.count, ("testImages", "positive", "negative"))) == counts


def test_the_least_side_is_the_least() -> None:
    alexnet = build_model(make_config(base_model="alexnet", overrides=["base_model.fc_channels=[8]"]).model, ("cup",))
    side = least_side(alexnet)
    for larger, fits in ((0, True), (40, True), (-1, False)):
        images = torch.zeros(1, 3, side + larger, side + 64)
        try:
            alexnet.backbone(images)
        except RuntimeError:
            assert not fits
        else:
            assert fits


def test_frames_that_are_too_small_are_refused(exported: Make, tmp_path: Path) -> None:
    file = rewritten(exported("onnx").files[0], tmp_path / "m.onnx", {"min_side": "40"})
    draw_image([], size=(20, 100)).save(tmp_path / "thin.png")
    with pytest.raises(ValueError, match=r"a resized image has 128 x 26 pixels; the layers need at least 40"):
        predict(file, tmp_path / "thin.png")


def test_what_a_runtime_cannot_run_is_an_error_in_one_line(
    exported: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = exported("onnx", image_size=(96, 160), batch=2, images_as="float").files[0]
    file = rewritten(fixed, tmp_path / "m.onnx", {"image.width": "64"})
    draw_image([]).save(tmp_path / "x.png")
    assert main(["predict", str(file), str(tmp_path / "x.png")]) == 2
    assert "its runtime fails with images of 64 x 96 pixels" in capsys.readouterr().err


def test_photos_whose_names_are_not_utf8(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / os.fsdecode(b"\xff.png")
    photo.parent.mkdir()
    draw_image([("red", (10, 12, 60, 70))]).save(photo)
    done = export(tiny_model(), "onnx", tmp_path / "m.onnx", data=photo.parent)
    assert json.loads(done.verification.read_text(encoding="utf-8"))["photos"] == [photo.name]


def test_a_folder_of_photos_is_enough_for_the_verification(photos: list[Path], tmp_path: Path) -> None:
    model = tiny_model()
    done = export(model, "onnx", tmp_path / "m.onnx", data=photos[0].parent)
    verification = json.loads(done.verification.read_text())
    assert verification["runs"][0]["map50"] is verification["photos_without_objects"] is None  # not known
    with pytest.raises(ValueError, match="precision fp16: is verified by AP, which needs annotated photos"):
        export(model, "onnx", tmp_path / "half.onnx", data=photos[0].parent, precision="fp16")
    with pytest.raises(ValueError, match="svd 4: is verified by AP, which needs annotated photos"):
        export(model, "onnx", tmp_path / "half.onnx", data=photos[0].parent, svd=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--precision", "bf16"],
            r"not available for onnx \(ONNX Runtime's convolutions do not compute in it\); choose fp32",
        ),
        (["--to", "torch", "--precision", "int8"], "not available for torch; choose fp32, fp16, bf16"),
        (["--out", "model.pt2"], r"model.pt2: a file for onnx ends in .onnx"),
        (
            ["--image-size", "8x640"],
            r"image size 8x640 \(height x width\): each side must be at least 16 pixels; .* a stride of 16",
        ),
        (["--calibrate", "photos"], "calibrate photos: precision fp32 is not calibrated"),
        (["--precision", "int8", "--calibrate", "none"], "int8 needs calibration images: none has none; name another"),
        (["--svd", "0"], "svd 0: the rank must be 1 or more"),
        (["--svd", "64"], r"no fully connected layer in its RoI head that gets smaller; use a rank under 6\d$"),
        (["--max-ap-loss", "0.1"], "max_ap_loss 0.1: in fp32 every detection is compared"),
        (["--batch", "0"], "batch 0: must be 1 or more"),
        (["--data", "nowhere"], r"verification needs photos; name some \(data=, --data\): nowhere: no such folder"),
    ],
)
def test_invalid_options(arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(run.glob(f"{PARTIAL}*"))


def test_int8_opens_the_data_once(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, honest = [], exporting.open_dataset
    monkeypatch.setattr(exporting, "open_dataset", lambda *of: opened.append(of) or honest(*of))
    export(run, "onnx", tmp_path / "m.onnx", precision="int8", max_ap_loss=1)
    assert len(opened) == 1


def test_an_operator_without_translation_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(run, device="cpu")
    monkeypatch.setattr(torch, "relu", torch.special.bessel_j0)
    with pytest.raises(ValueError, match=r"cannot be exported to ONNX: .*bessel_j0"):
        export(model, "onnx", tmp_path / "m.onnx", data=run.parent / "data")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("package", "command", "module"),
    [
        ("onnxscript", ["export", "RUN"], "onnx"),
        ("onnxruntime", ["predict", "model.onnx", "x.jpg"], "onnx"),
        ("openvino", ["export", "RUN", "--to", "openvino"], "openvino"),
        ("openvino", ["predict", "model.xml", "x.jpg"], "openvino"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(
    package: str,
    command: list[str],
    module: str,
    run: Path,
    exported: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {"model.onnx": exported("onnx").files[0], "model.xml": exported("openvino").files[0], "RUN": run}
    for name in [name for name in sys.modules if name.startswith(f"frcnn.export.{module}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main([str(files.get(word, word)) for word in command]) == 2
    error = capsys.readouterr().err
    packages = "openvino" if package == "openvino" else "onnx onnxruntime onnxscript"
    assert f"needs {package}, which is not installed: pip install {packages}\n" in error


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_damaged_files_and_files_of_others(
    to: str, exported: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = exported(to).files[0].suffix
    content = exported(to).files[0].read_bytes()
    for name, damaged in (("short", content[: len(content) // 2]), ("empty", b""), ("text", b"not a model\n")):
        file = tmp_path / f"{name}{suffix}"
        file.write_bytes(damaged)
        assert main(["predict", str(file), "x.jpg", "--trust-file"]) == 2
        assert f"{file}: damaged, or not a" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / f"none{suffix}"), "x.jpg"]) == 2
    assert "no such file; `frcnn export RUN_DIR --out" in capsys.readouterr().err


def rewritten(file: Path, target: Path, changes: dict[str, str | None]) -> Path:
    model = onnx.load(file)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for key, value in changes.items():
        if value is None:
            del metadata[key]
        else:
            metadata[key] = value
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "4"}, "has format 4, this frcnn reads format 3; install a newer frcnn"),
        ({"format_version": "3"}, "damaged, its metadata has no image.fixed_point"),
        ({"format_version": "1"}, "has format 1 of an older frcnn, this one reads format 3; export it again"),
        ({"format": None}, "`frcnn export` did not write this file"),
        ({"format_version": "x"}, "damaged, its format_version cannot be read"),
        ({"classes": None}, "damaged, its metadata has no classes"),
        ({"classes": ""}, "damaged, its metadata has no classes"),
        (
            {"classes": "cat\ncat"},
            "damaged, its classes are .'cat', 'cat'.; they must be at most 100,000 distinct names",
        ),
        ({"classes": "\n".join(map(str, range(100_001)))}, "must be at most 100,000 distinct names"),
        ({"classes": "x" * 1001}, "each of 1 to 1,000 characters"),
        ({"classes": "cat\x1b[2J"}, "without control characters"),
        ({"min_side": None}, "damaged, its metadata has no min_side"),
        ({"min_side": "1" * 5000}, "its min_side is '1+.*; it must be a whole number from 1 to 32768"),
        ({"mean": "a b c"}, "damaged, its mean is 'a b c'; it must be three numbers"),
        ({"mean": "1 2"}, "damaged, its mean is '1 2'; it must be three numbers"),
        ({"std": "1 0 1"}, "damaged, its std is '1 0 1'; it must be three numbers from 1e-06"),
        ({"std": "1 nan 1"}, "damaged, its std is '1 nan 1'; it must be three numbers"),
        (
            {"image.shorter_side": "1" + "0" * 30},
            "image.shorter_side is '10+.*'; it must be a whole number from 0 to 32768",
        ),
        ({"image.shorter_side": "0"}, "damaged, the sides of its input are"),
        (
            {"image.divisor": "1000000"},
            "damaged, its image.divisor is '1000000'; it must be a whole number from 1 to 1024",
        ),
        ({"image.resize": "stretch"}, "damaged, its image.resize is 'stretch'; it must be one of: fit, shorter_side"),
        ({"image.tile": "3"}, "its image.tile is 3; it must be 0 or at least 64"),
        ({"batch": "-1"}, "damaged, its batch is '-1'; it must be a whole number"),
        ({"batch": "100000"}, "damaged, its input is 100,000 x 128 x 96 pixels; it may have at most 268,435,456"),
        (
            {"image.shorter_side": "32768", "image.longer_side": "32768"},
            "damaged, its input is 1 x 32,768 x 32,768 pixels; it may have at most 268,435,456",
        ),
        (
            {"image.shorter_side": "1", "image.longer_side": "1", "image.divisor": "1024", "batch": "1000"},
            "damaged, its input is 1,000 x 1,024 x 1,024 pixels",
        ),
        ({"input": "double"}, "damaged, its input is 'double'; it must be one of: uint8, float"),
        ({"results": "[" * 100_000}, "damaged, its results cannot be read"),
        ({"results": "null"}, "damaged, its results cannot be read"),
        ({"results": "[]"}, "damaged, its results cannot be read"),
        ({"results": '"text"'}, "damaged, its results cannot be read"),
        ({"results": '{"nms_threshold": 2}'}, "damaged, its results cannot be read"),
        (
            {
                "results": '{"nms_threshold": 0.5, "score_threshold": 0, "max_detections": 1000000000000, '
                '"ap_iou": 0.5, "use_07_metric": false}'
            },
            "damaged, its results are",
        ),
    ],
)
def test_descriptions_that_cannot_be_used(
    changes: dict[str, str | None], message: str, exported: Make, tmp_path: Path
) -> None:
    file = rewritten(exported("onnx").files[0], tmp_path / "model.onnx", changes)
    with pytest.raises(ValueError, match=message):
        open_runtime(file)


@pytest.mark.parametrize(
    ("element", "change", "message"),
    [
        ("framework", "", "`frcnn export` did not write this file"),
        ("framework", '<framework value="7" />', "`frcnn export` did not write this file"),
        ("framework", "<framework />", "`frcnn export` did not write this file"),
        ("format", '<format><a value="frcnn" /></format>', "`frcnn export` did not write this file"),
        ("format_version", '<format_version><a value="2" /></format_version>', "its format_version cannot be read"),
        ("classes", '<classes><a value="cat" /></classes>', "its metadata has no classes"),
        ("classes", '<classes value="cat&#13;dog" />', "without control characters"),
        ("batch", '<batch value="100000" />', "its input is 100,000 x 128 x 96 pixels"),
        ("results", f'<results value="{"[" * 100_000}" />', "its results cannot be read"),
    ],
)
def test_descriptions_in_a_file_of_openvino(
    element: str, change: str, message: str, exported: Make, tmp_path: Path
) -> None:
    original = exported("openvino").files[0]
    shutil.copy(original.with_suffix(".bin"), tmp_path / "model.bin")
    start, end = rf"<{element}( [^>]*)?", rf"(/>|>.*?</{element}>)"
    text, count = re.subn(start + end, change, original.read_text(), flags=re.DOTALL)
    assert count == 1
    (tmp_path / "model.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"model\.xml: .*{message}"):
        open_runtime(tmp_path / "model.xml")


@pytest.mark.parametrize(("to", "precision"), [each for each in ALL if each[1] != "int8"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(
    to: str, precision: str, value: float, exported: Make, tmp_path: Path
) -> None:
    """Such a file would find nothing, and say nothing."""
    original = exported(to, precision=precision).files[0]
    file = tmp_path / original.name
    if to == "onnx":
        model = onnx.load(original)
        weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        values = onnx.numpy_helper.to_array(weight).copy()
        values.flat[7] = value
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, file)
    elif to == "openvino":
        shutil.copy(original, file)
        content = bytearray(original.with_suffix(".bin").read_bytes())
        bits = torch.tensor([value], dtype=torch.float16 if precision == "fp16" else torch.float32)
        written = bytes(bits.view(torch.uint8).tolist())
        middle = len(content) // 2 // 4 * 4
        content[middle : middle + len(written)] = written
        file.with_suffix(".bin").write_bytes(content)
    else:
        program = torch.export.load(original, extra_files=(extra := {DESCRIPTION_FILE: ""}))
        with torch.no_grad():
            max(program.state_dict.values(), key=torch.numel).view(-1)[7] = value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that share their memory
            torch.export.save(program, file, extra_files=extra)
    with pytest.raises(ValueError, match=f"{file}: damaged, .* has infinite or NaN values; export it again"):
        Exported(file, trust=True)


def test_labels_that_the_file_does_not_name_are_an_error(exported: Make, tmp_path: Path) -> None:
    file = rewritten(exported("onnx").files[0], tmp_path / "model.onnx", {"classes": "blue"})
    with pytest.raises(ValueError, match="it returned a class without a name"):
        frcnn.load(file).predict(draw_image([("red", (10, 10, 60, 60))]), threshold=0)


def test_a_torch_file_without_description(tmp_path: Path) -> None:
    program = torch.export.export(nn.Identity(), (torch.zeros(1),))
    torch.export.save(program, tmp_path / "m.pt2", extra_files={DESCRIPTION_FILE: ""})
    with pytest.raises(ValueError, match="`frcnn export` did not write this file"):
        Exported(tmp_path / "m.pt2", trust=True)


def pickled(marker: Path) -> bytes:
    """Opening it creates the marker."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(marker),)

    content = BytesIO()
    torch.save(Evil(), content)
    return content.getvalue()


ATTACKS: dict[str, Callable[[bytes, Path], bytes]] = {
    "sample_inputs/model.pt": lambda content, marker: pickled(marker),
    "models/model.json": lambda content, marker: re.sub(
        rb"Symbol\([^)]*\)", f"__import__('os').mkdir('{marker}')".encode(), content
    ),
}
"""Members of a .pt2 file, and how each comes to run code that creates the marker."""


def hostile(path: Path, member: str, marker: Path) -> Path:
    """A .pt2 file of which one member runs code."""
    program = torch.export.export(
        nn.Identity(), (torch.zeros(2),), dynamic_shapes={"input": {0: torch.export.Dim.AUTO}}
    )
    torch.export.save(program, path, extra_files={DESCRIPTION_FILE: ""})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, ATTACKS[member](content, marker) if name.endswith(member) else content)
    return path


@pytest.mark.parametrize("member", ATTACKS)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_torch_file_runs_no_code_unless_it_is_trusted(
    command: str, member: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    file = hostile(tmp_path / "m.pt2", member, marker)
    for opens in (Exported, open_runtime, frcnn.load):
        with pytest.raises(ValueError, match=r"m\.pt2: .* run any code.*trust=True.*--to onnx"):
            opens(file)
    data = [str(tmp_path)] if command == "predict" else ["--data", str(tmp_path)]
    assert main([command, str(file), *data]) == 2
    assert "--trust-file" in capsys.readouterr().err
    assert not marker.exists()

    with warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore")  # torch's, of what it is about to run
        Exported(file, trust=True)
    assert marker.exists()  # so the attack works


def test_an_exported_file_is_measured_on_data_that_are_named(exported: Make) -> None:
    with pytest.raises(ValueError, match="does not say what it was trained on; name a folder"):
        frcnn.load(exported("onnx").files[0]).evaluate()


def test_data_are_read_as_for_a_run(run: Path, tmp_path: Path) -> None:
    """The folder that it was trained on by its rules, other folders not."""
    few = tmp_path / "run"
    shutil.copytree(run, few)
    config = make_config(file=run / "config.yaml", overrides=["data.num_test_images=1"])
    (few / "config.yaml").write_text(dump_yaml(config))
    assert frcnn.load(few).evaluate().images == 1
    file = export(few).files[0]
    other = shutil.copytree(run.parent / "data", tmp_path / "other")
    for model in (file, few):
        assert frcnn.load(model).evaluate(run.parent / "data").images == 1
        assert frcnn.load(model).evaluate(other).images == 2


def test_evaluation_of_a_file_is_that_of_its_run(exported: Make, run: Path) -> None:
    data = run.parent / "data"
    of_run, of_file = (frcnn.load(model).evaluate(data) for model in (run, exported("onnx").files[0]))
    assert of_file.map50 == of_run.map50
    assert of_file.map == pytest.approx(of_run.map, abs=1e-6)
    assert of_file.images == of_run.images
    np.testing.assert_array_equal(of_file.confusion_matrix, of_run.confusion_matrix)
    assert of_file.recall == {}
    assert "Recall" not in str(of_file)
