"""Every kind of file that frcnn reads: a real one, and what reads it."""

import json
import math
import pickle
import pprint
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from io import StringIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import onnx
import torch
import yaml
from data.layouts import LAYOUTS, TOY
from fuzz.limits import Outcome, run_limited
from fuzz.mutations import mutate
from oracles import detectron2, mmdetection
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import draw_image, tiny_config, tiny_model, trained_run

import frcnn
from frcnn.cli import main
from frcnn.config import DataSettings, make_config
from frcnn.config.cntk_files import read_config_files
from frcnn.data.dataset import Dataset
from frcnn.data.formats import EDITABLE
from frcnn.data.images import read_image, read_to_resize, verify_image
from frcnn.inference.parts.merge import merge_parts
from frcnn.inference.parts.predict import predict_in_parts
from frcnn.inference.runtimes import TorchRuntime
from frcnn.nn.migrate.files import import_detector
from frcnn.nn.weights import read_weights
from frcnn.resizing import Resizing
from frcnn.tools.annotate.editing import Editor
from frcnn.tools.annotate.review import Review
from frcnn.tools.download import unpack
from frcnn.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from frcnn.training.crossval import CrossvalResult, FoldResult, load_crossval
from frcnn.training.schemes import phases_of
from frcnn.training.state import TrainingState

PHOTO = draw_image([("red", (10, 10, 60, 60))])
_IMAGES = {
    "jpeg": ("a.jpg", {}),
    "jpeg, progressive": ("a.jpg", {"progressive": True}),
    "png": ("a.png", {}),
    "webp": ("a.webp", {}),
    "tiff": ("a.tif", {"compression": "tiff_lzw"}),
    "tiff, not compressed": ("a.tif", {}),
    "gif": ("a.gif", {}),
    "bmp": ("a.bmp", {}),
    "jpeg 2000": ("a.jp2", {}),
    "tga": ("a.tga", {}),
    "ppm": ("a.ppm", {}),
}


class Kind(NamedTuple):
    """A kind of file, or of folder."""

    write: Callable[[Path], None]
    """Writes a real one into a folder."""
    use: Callable[[Path], object]
    """Reads it."""
    changed: str = "*"
    """A pattern: which of its files are changed."""
    is_slow: bool = False
    """A case takes a second."""


def run_case(kind: Kind, random: Random | None) -> Outcome:
    """Change a real file, and read it.

    Args:
        random: None: the file is not changed.

    Raises:
        AssertionError: reading ends neither in a result nor in a clear error, or takes too much time or memory.
        Exception: reading raised something other than a ValueError or an OSError.
    """
    files = _original(kind)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        names = [path for path in files if Path(path).match(kind.changed)]
        assert names
        if random is not None:
            for path in random.sample(names, min(len(names), random.choice((1, 1, 1, 2, 5)))):
                (folder / path).write_bytes(mutate(files[path], random))
        outcome = run_limited(lambda: kind.use(folder))
        assert outcome.error is None or name in outcome.error, f"the file is not named: {outcome.error[:300]}"
        return outcome


@cache
def _original(kind: Kind) -> dict[str, bytes]:
    with TemporaryDirectory() as name:
        kind.write(Path(name))
        files = sorted(path for path in Path(name).rglob("*") if path.is_file())
        return {str(path.relative_to(name)): path.read_bytes() for path in files}


def _write_image(folder: Path, file: str, options: dict[str, object]) -> None:
    PHOTO.save(folder / file, **options)


def _read_image(folder: Path) -> None:
    (path,) = folder.iterdir()
    for read in (verify_image, read_image, partial(read_to_resize, resizing=Resizing("fit", width=32, height=32))):
        read(path)


def _write_zip_of_images(folder: Path) -> None:
    PHOTO.save(folder / "a.png")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "a.png", "a.png")
    (folder / "a.png").unlink()


def _write_archive(folder: Path, suffix: str) -> None:
    (folder / "in").mkdir()
    PHOTO.save(folder / "in" / "a.png")
    if suffix == "zip":
        shutil.make_archive(str(folder / "a"), "zip", folder / "in")
    else:
        with tarfile.open(folder / "a.tar", "w") as archive:
            archive.add(folder / "in", "in")
    shutil.rmtree(folder / "in")


def _unpack(folder: Path) -> None:
    (archive,) = folder.iterdir()
    unpack(archive, folder / "out")
    outside = [path for path in folder.rglob("*") if path != archive and folder / "out" not in (path, *path.parents)]
    assert not outside, outside


def _read_data(folder: Path) -> list[str]:
    dataset = Dataset(folder, DataSettings(force=True))
    dataset.verify()
    return [str(problem) for problem in dataset.problems]


def _edit(folder: Path) -> None:
    editor = Editor(folder, DataSettings())
    for index in range(len(editor.images)):
        if index not in editor.broken:
            annotation = editor.read(index)
            editor.write(index, annotation.objects, annotation.version)


def _write_settings(folder: Path) -> None:
    for name in ("config.yaml", "plan.yaml"):
        shutil.copy(trained_run() / "config.yaml", folder / name)


def _copy_run(folder: Path) -> None:
    shutil.copytree(trained_run(), folder, dirs_exist_ok=True)


def _predict(folder: Path, name: str) -> object:
    return frcnn.load(folder / name).predict(PHOTO)


def _use_run(folder: Path) -> None:
    """What `frcnn report` reads of a run directory, and the model."""
    _predict(folder, "")
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = main(["report", str(folder)])
    assert status in (0, 2), said.getvalue()


def _write_model(folder: Path) -> None:
    shutil.copy(trained_run() / "model.safetensors", folder)


def _write_exported(folder: Path, to: str) -> None:
    if to == "onnx":
        shutil.copy(_onnx_file(), folder / "model.onnx")
    else:
        frcnn.load(trained_run()).export(to, folder / "model.xml")
        (folder / "model.xml.verification.json").unlink()


def _write_description(folder: Path) -> None:
    """The metadata of a model file."""
    with safe_open(trained_run() / "model.safetensors", framework="pt") as file:
        for name, text in file.metadata().items():
            (folder / name).write_text(text)


def _use_description(folder: Path) -> object:
    """A model file that is whole but for its metadata."""
    metadata = _texts(folder)
    file = folder / "model.safetensors"
    save_file(load_file(trained_run() / "model.safetensors"), file, metadata)
    return _predict(folder, file.name)


def _texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8", errors="replace") for file in folder.iterdir()}


def _write_onnx_description(folder: Path) -> None:
    for entry in onnx.load(_onnx_file()).metadata_props:
        (folder / entry.key).write_text(entry.value)


def _use_onnx_description(folder: Path) -> object:
    model = onnx.load(_onnx_file())
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, _texts(folder))
    onnx.save(model, folder / "model.onnx")
    return _predict(folder, "model.onnx")


@cache
def _onnx_file() -> Path:
    return frcnn.load(trained_run()).export("onnx", trained_run().parent / "fuzz.onnx").files[0]


def _write_weights(folder: Path, *, zipped: bool) -> None:
    torch.save({"a": torch.ones(3, 4), "b": torch.zeros(2)}, folder / "a.pth", _use_new_zipfile_serialization=zipped)


def _write_checkpoint(folder: Path) -> None:
    torch.save(
        {"state": {"a": torch.ones(3)}, "conditions": {"data": "x"}, "metrics_size": 3}, folder / "checkpoint.pt"
    )


@cache
def _training_state() -> TrainingState:
    """In the middle of a phase, where the checkpoint also has the optimizer."""
    settings = tiny_config().train
    state = TrainingState(tiny_model(), settings, phases_of(settings), steps_per_epoch=5)
    state.begin_phase()
    state.step = 1
    return state


def _write_parts_of_checkpoint(folder: Path) -> None:
    """Each entry of a checkpoint as JSON, with the shapes of its tensors."""
    Checkpoint(folder, _training_state(), data="x").update(now=True)
    content = read_checkpoint(folder / "checkpoint.pt")
    (folder / "checkpoint.pt").unlink()
    content |= {f"state.{name}": value for name, value in content.pop("state").items()}
    content["state.model"] = {name: list(tensor.shape) for name, tensor in content["state.model"].items()}
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def _restore(folder: Path) -> None:
    content: dict[str, Any] = {"state": {}}
    for name, text in _texts(folder).items():
        *group, key = name.removesuffix(".json").split(".")
        if text:  # else there is no such entry
            (content["state"] if group else content)[key] = _parsed(text)
    model = content["state"].get("model")
    if isinstance(model, dict):
        content["state"]["model"] = {name: _zeros(shape) for name, shape in model.items()}
    write_checkpoint(folder / "checkpoint.pt", content)
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    Checkpoint(folder, _training_state(), data="x").restore()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _zeros(shape: Any) -> Any:
    """A tensor of one number, which is repeated: the file stays small. What is no small shape stays as it is."""
    is_shape = isinstance(shape, list) and all(type(side) is int and 0 <= side < 10_000 for side in shape)
    return torch.zeros(()).expand(shape) if is_shape and math.prod(shape) < 1e8 else shape


def _write_of_detectron2(folder: Path) -> None:
    rules = detectron2.Rules(depth=18)
    predictor = "roi_heads.box_predictor"
    tensors = {
        "backbone.bottom_up.stem.conv1.weight": torch.zeros(64, 3, 7, 7),
        "proposal_generator.rpn_head.anchor_deltas.weight": torch.zeros(12, 8, 1, 1),
        **{f"{predictor}.cls_score.{part}": torch.zeros(6) for part in ("weight", "bias")},
        **{f"{predictor}.bbox_pred.{part}": torch.zeros(20) for part in ("weight", "bias")},
    }
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    (folder / "model.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    (folder / "config.yaml").write_text(yaml.safe_dump(detectron2.config_of(rules)))


def _write_of_mmdetection(folder: Path) -> None:
    head = "roi_head.bbox_head"
    tensors = {
        "backbone.conv1.weight": torch.zeros(64, 3, 7, 7),
        "rpn_head.rpn_conv.weight": torch.zeros(1),
        **{f"{head}.fc_cls.{part}": torch.zeros(6) for part in ("weight", "bias")},
        **{f"{head}.fc_reg.{part}": torch.zeros(20) for part in ("weight", "bias")},
    }
    torch.save({"meta": {"mmdet_version": "3.0.0"}, "state_dict": tensors}, folder / "epoch_12.pth")
    values = mmdetection.config_of(mmdetection.Rules(depth=18))
    texts = (f"{name} = {pprint.pformat(value, sort_dicts=False)}\n" for name, value in values.items())
    (folder / "config.py").write_text("".join(texts))


def _import(folder: Path, library: str, weights: str, config: str) -> None:
    """All but the layers, which take a second."""
    with patch(f"frcnn.nn.migrate.from_{library}.build_model"):
        import_detector(folder / weights, library, config=folder / config, classes=list("abcde"))


_OF_CNTK = """
from easydict import EasyDict as edict
__C = edict()
__C.CNTK = edict()
__C.CNTK.E2E_MAX_EPOCHS = 2
__C.CNTK.E2E_LR_PER_SAMPLE = [0.001] * 1 + [0.0001] * 1
__C.MODEL.BASE_MODEL = "AlexNet"
__C.MODEL.LAST_CONV_NODE_NAME = "conv5.y"
__C.MODEL.FEATURE_STRIDE = 16
__C.DATA.PROPOSAL_LAYER_SCALES = [4, 8, 12]
"""


def _read_of_cntk(folder: Path) -> object:
    files = read_config_files([folder / "config.py"])
    try:
        return make_config(recipe="tutorial", overrides=files.settings)
    except ValueError as error:  # names the parameter, as for `--set`: of several files, the last one counts
        raise ValueError(f"{folder}: {error}") from None


_OWN_BASE_MODEL = """
base_model:
  architecture: timm:convnext_nano
  last_conv_node: stages.2
  fc_channels: [1024, 1024]
  weights: convnext_nano.pth
"""


def _write_parts(folder: Path) -> None:
    (folder / "photos").mkdir()
    for number in range(3):
        draw_image([("red", (10, 10, 60, 60))], seed=number).save(folder / "photos" / f"{number}.png")
    _predict_parts(folder)


def _predict_parts(folder: Path, *, resume: bool = False) -> object:
    source, parts = folder / "photos", folder / "parts"
    return predict_in_parts(_runtime(), source, parts, settings={"model": "x"}, threshold=0.05, resume=resume)


@cache
def _runtime() -> TorchRuntime:
    return TorchRuntime(tiny_model())


def _merge_parts(folder: Path) -> object:
    return merge_parts(folder / "parts", folder / "all.jsonl")


def _write_crossval(folder: Path) -> None:
    results = tuple(FoldResult(fold, 0, folder / f"fold-{fold}", 5, 0.5, 0.25) for fold in (1, 2))
    result = CrossvalResult(folder, 2, (0,), {"data": "x", "data.split_seed": 0}, results)
    (folder / "crossval.json").write_text(result.to_json())


def _use_crossval(folder: Path) -> object:
    result = load_crossval(folder)
    return str(result), result.minus(result), result.to_json()


def _write_decisions(folder: Path) -> None:
    _write_suspects(folder)
    Review(folder / "suspects.json", Editor(folder, DataSettings())).decide(0, "kept")


def _write_journal(folder: Path) -> None:
    """What a process leaves that is killed while it saves an annotation."""
    LAYOUTS["folders"].write(folder, TOY)
    file = min(folder.rglob("*.bboxes.tsv"))
    new = file.with_name(f".partial-1-{file.name}")
    new.write_text(file.read_text())
    file.with_name(".frcnn-changes-1.json").write_text(json.dumps({new.name: file.name}))


def _write_suspects(folder: Path) -> None:
    LAYOUTS["coco"].write(folder, TOY)
    suspect = {"image": "images/train/a 1.jpg", "box": [1, 2, 30, 40], "kind": "object without label", "class": "cat"}
    (folder / "suspects.json").write_text(json.dumps({"suspects": [suspect | {"score": 0.5}]}))


def _review(folder: Path) -> list[dict[str, object]]:
    review = Review(folder / "suspects.json", Editor(folder, DataSettings()))
    if review.suspects:
        review.decide(0, "accepted")
    return list(review.for_page())


def _write_text(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def _write_layout(folder: Path, name: str) -> None:
    LAYOUTS[name].write(folder, TOY)


EDITED = tuple(next(name for name, each in LAYOUTS.items() if each.format == form) for form in EDITABLE)
"""A layout of each format that the annotation page writes."""
_ANNOTATIONS = "*[!g]"  # not .jpg and .png
KINDS: dict[str, Kind] = {
    **{
        name: Kind(partial(_write_image, file=file, options=options), _read_image)
        for name, (file, options) in _IMAGES.items()
    },
    "zip of images": Kind(_write_zip_of_images, lambda folder: read_image(folder / "a.zip@" / "a.png")),
    **{f"data: {name}": Kind(partial(_write_layout, name=name), _read_data, _ANNOTATIONS) for name in LAYOUTS},
    **{f"editing: {name}": Kind(partial(_write_layout, name=name), _edit, _ANNOTATIONS) for name in EDITED},
    "settings": Kind(_write_settings, lambda folder: [make_config(file=file) for file in sorted(folder.iterdir())]),
    "run directory": Kind(_copy_run, _use_run, "*.[yj]*", is_slow=True),
    "model.safetensors": Kind(_write_model, partial(_predict, name="model.safetensors")),
    "model.safetensors, its metadata": Kind(_write_description, _use_description),
    "onnx, its metadata": Kind(_write_onnx_description, _use_onnx_description),
    "onnx": Kind(partial(_write_exported, to="onnx"), partial(_predict, name="model.onnx")),
    "openvino": Kind(partial(_write_exported, to="openvino"), partial(_predict, name="model.xml")),
    "weights.pth": Kind(partial(_write_weights, zipped=True), lambda folder: read_weights(folder / "a.pth")),
    "weights.pth, old": Kind(partial(_write_weights, zipped=False), lambda folder: read_weights(folder / "a.pth")),
    "checkpoint": Kind(_write_checkpoint, lambda folder: read_checkpoint(folder / "checkpoint.pt")),
    "checkpoint, its content": Kind(_write_parts_of_checkpoint, _restore),
    **{
        f"import: {what}": Kind(write, partial(_import, library=library, weights=weights, config=config), changed)
        for what, write, library, weights, config, changed in (
            ("config of detectron2", _write_of_detectron2, "detectron2", "model.pkl", "config.yaml", "*.yaml"),
            ("pickle of detectron2", _write_of_detectron2, "detectron2", "model.pkl", "config.yaml", "*.pkl"),
            ("config of mmdetection", _write_of_mmdetection, "mmdetection", "epoch_12.pth", "config.py", "*.py"),
        )
    },
    "config of CNTK": Kind(partial(_write_text, name="config.py", text=_OF_CNTK), _read_of_cntk),
    "base model": Kind(
        partial(_write_text, name="my_model.yaml", text=_OWN_BASE_MODEL),
        lambda folder: make_config(base_model=str(folder / "my_model.yaml")),
    ),
    "parts, resumed": Kind(_write_parts, partial(_predict_parts, resume=True), "parts/*"),
    "parts, merged": Kind(_write_parts, _merge_parts, "parts/*"),
    "crossval": Kind(_write_crossval, _use_crossval),
    "suspects": Kind(_write_suspects, _review, "suspects.json"),
    "decisions": Kind(_write_decisions, _review, "*.decisions.json"),
    "journal": Kind(_write_journal, _read_data, ".frcnn-changes-*"),
    "zip": Kind(partial(_write_archive, suffix="zip"), _unpack),
    "tar": Kind(partial(_write_archive, suffix="tar"), _unpack),
}
