"""Exporting a model: trace it, write the file, verify it. A file that fails is not kept."""

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.export import ExportedProgram

from frcnn.config import DataSettings
from frcnn.data.dataset import Dataset, data_of_run, open_dataset
from frcnn.data.discover import discover
from frcnn.data.images import images_among
from frcnn.data.records import Record, make_record
from frcnn.data.transforms import prepare_images
from frcnn.evaluation.evaluate import known_objects
from frcnn.export import verify
from frcnn.export.trace import Deployed, in_precision, trace
from frcnn.fast.svd import compress
from frcnn.files import atomic_write_all, partial_dir
from frcnn.inference.description import OUTPUTS, RAW_OUTPUTS, Description, ResultRules
from frcnn.inference.runtimes import Exported, TorchRuntime
from frcnn.json_text import to_json
from frcnn.messages import plural
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.model_file import COCO, load_model
from frcnn.nn.model_info import least_side

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch": ("fp32", "fp16", "bf16"),
}
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
_MAX_AP_LOSS = {"fp32": 0.0, "fp16": 0.01, "bf16": 0.01, "int8": 0.02, "svd": 0.02}
_LEAST, _MOST, _MOST_FOR_AP, _CALIBRATION = 10, 20, 100, 100  # photos


class Export(NamedTuple):
    """The result of `export`."""

    files: list[Path]
    """The file to load; of OpenVINO also the file with the weights."""
    verification: Path
    """FILE.verification.json."""
    runs: list[verify.VerificationRun]
    """The file against PyTorch."""
    quantized: verify.VerificationRun | None
    """For int8: the file against the float32 file that it was quantized from."""
    compressed: verify.VerificationRun | None
    """For `svd`: the file against PyTorch before compression."""

    def __repr__(self) -> str:
        return f"<Export {' and '.join(map(str, self.files))}: verified, see {self.verification}>"


def export(
    source: FasterRCNN | str | Path,
    to: str = "onnx",
    out: str | Path | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    batch: int | None = None,
    raw: bool = False,
    precision: str = "fp32",
    svd: int | None = None,
    images_as: str | None = None,
    data: str | Path | Dataset | None = None,
    calibrate: str | Path | None = None,
    max_ap_loss: float | None = None,
    log: Callable[[str], None] = lambda line: None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Export:
    """Write a model to a file that runs without frcnn, and verify it: on real photos, compared with PyTorch.

    Args:
        source: a model, a run directory, a model file, or "coco:NAME".
        to: "onnx"; "openvino" (FILE.xml and FILE.bin); or "torch" (FILE.pt2).
        out: the file; None: model.onnx, model-int8.onnx and so on in the run directory, or beside a model file.
        image_size: (height, width), pixels, of the only frame that the file accepts; photos are fitted into it. None:
            any frame; photos are resized as in training.
        batch: the only batch size that the file accepts; None: any.
        raw: also give the tutorial's `rpn_rois`, `cls_pred`, `bbox_regr`, and `rois_valid`.
        precision: "fp32", "fp16", "bf16" or "int8" (quantized, for CPUs).
        svd: rank to which fully connected layers are compressed (`Detector.compress`); None: not compressed.
        images_as: "uint8", (B, H, W, 3), or "float", (B, 3, H, W); RGB, 0..255. None: "uint8", but "float" where
            resized photos have fractional values.
        data: photos for the verification: a data set or a folder of images; None: those of the run directory, test
            images first.
        calibrate: folder of photos for calibrating int8; None: the run's training images.
        max_ap_loss: largest difference from PyTorch's AP; for int8, how much lower the AP may be. None: 0.01, for int8
            0.02. In fp32, detections are compared instead. With `svd`, also how much lower than before compression;
            None: 0.02.
        log: called with a line on each step.
        on_image: called during verification with the photos done and their total.

    Raises:
        ValueError: invalid options, a model that cannot be exported, no photos for the verification, or a file whose
            detections differ from PyTorch's; it is deleted.
        ModuleNotFoundError: a package is missing.
    """
    path = _path(source, to, out, precision, svd)
    if calibrate is not None and precision != "int8":
        raise ValueError(f"calibrate {calibrate}: precision {precision} is not calibrated; leave it out, or use int8")
    by_ap = precision != "fp32" or svd is not None
    if max_ap_loss is not None and not by_ap:
        raise ValueError(f"max_ap_loss {max_ap_loss}: in fp32 every detection is compared, not the AP; leave it out")
    require_packages(to, precision)
    uncompressed = source if isinstance(source, FasterRCNN) else load_model(source, device="cpu")
    description = _description(uncompressed, precision, svd, image_size, batch, images_as)
    if by_ap and description.image.tile:
        raise ValueError(
            f"the detector was trained on tiles ({description.image.tile} pixels): such a detector is verified in "
            f"fp32 and without svd only; leave precision and svd out"
        )
    run_data = None if isinstance(source, FasterRCNN) else data_of_run(source)
    opened = data if isinstance(data, Dataset) else _open(data or run_data)
    photos = _photos(uncompressed.classes, opened, _MOST_FOR_AP if by_ap else _MOST)
    annotated = sum(len(photo.boxes) > 0 for photo in photos)
    if by_ap and not annotated:
        option = f"precision {precision}" if svd is None else f"svd {svd}"
        raise ValueError(f"{option}: is verified by AP, which needs annotated photos; pass a data set (data=, --data)")
    calibration = _calibration(run_data if data is not None else opened, calibrate) if precision == "int8" else []
    model = uncompressed
    if svd is not None:
        log(f"compressing fully connected layers to rank {svd}")
        model = compress(uncompressed, svd)

    with partial_dir(path) as folder:
        written = folder / path.name
        log(f"writing {path.name}")
        deployed = Deployed(_in_layers(model, to, precision), uint8=description.input == "uint8", raw=raw)
        program = trace(deployed, image_size=image_size, batch=batch)
        floating = None
        if precision == "int8":
            inputs = (
                each for photo in calibration for each in description.inputs(prepare_images([photo], description.image))
            )
            floating = _write_quantized(program, description, written, inputs, raw=raw, log=log)
        else:
            _write(program, description, written, raw=raw)

        if description.image.tile:
            log(
                f"the detector was trained on tiles of {description.image.tile} pixels: programs other than frcnn "
                f"must cut larger images into such tiles"
            )
        log(f"verifying {path.name} on {plural(len(photos), 'photo')}")
        file, expected = Exported(written, trust=True), TorchRuntime(in_precision(model, torch.float32))
        runs = verify.verification_runs(file, expected, photos, one_size=image_size is not None, on_image=on_image)
        limits = _MAX_AP_LOSS if max_ap_loss is None else dict.fromkeys(_MAX_AP_LOSS, max_ap_loss)
        reason = verify.refusal(runs, precision, limits[precision])
        compression = None
        if reason is None and svd is not None:
            before = TorchRuntime(in_precision(uncompressed, torch.float32))
            compression = verify.verification_run(file, before, photos, name=f"svd {svd}")
            reason = verify.refusal([compression], "svd", limits["svd"])
        if reason is not None:
            raise ValueError(f"{path}: not kept, because its detections differ from PyTorch's: {reason}")
        quantized = None if floating is None else verify.verification_run(file, Exported(floating, trust=True), photos)

        files = {path.with_suffix(part.suffix): part for part in _files(written)}
        facts: dict[str, Any] = {
            "target": to,
            "precision": precision,
            "versions": {name: version(name) for name in ("frcnn", "torch", _PACKAGES[to])},
            "sha256": {target.name: hashlib.sha256(part.read_bytes()).hexdigest() for target, part in files.items()},
            "rule": verify.rule(precision, limits[precision]),
            "photos": [photo.image.name for photo in photos],
            "photos_without_objects": len(photos) - annotated if annotated else None,
            "runs": [verify.to_dict(one, "pytorch") for one in runs],
        }
        if quantized is not None:
            facts["quantization"] = verify.to_dict(quantized, "before")
        if compression is not None:
            facts["compression"] = {"rule": verify.rule("svd", limits["svd"]), **verify.to_dict(compression, "before")}
        verification = path.with_name(f"{path.name}.verification.json")
        with atomic_write_all(*files, verification) as (*partials, partial_verification):
            for part, partial in zip(files.values(), partials, strict=True):
                os.replace(part, partial)
            partial_verification.write_text(to_json(facts), encoding="utf-8")
    return Export(list(files), verification, runs, quantized, compression)


def write_unverified(model: FasterRCNN, path: Path, precision: str = "fp32") -> None:
    """Write an exported file without comparing it with PyTorch, e.g. to measure its speed.

    Args:
        path: ends in .onnx, .xml or .pt2.
        precision: "fp32", "fp16" or "bf16".
    """
    to = next(name for name, suffix in SUFFIXES.items() if suffix == path.suffix)
    description = _description(model, precision, None, None, None, None)
    layers = Deployed(_in_layers(model, to, precision), uint8=description.input == "uint8", raw=False)
    _write(trace(layers, image_size=None, batch=None), description, path, raw=False)


def require_packages(to: str, precision: str = "fp32") -> None:
    """Raises ModuleNotFoundError if a package is missing that `export` needs."""
    modules = {"onnx": ["onnx"], "openvino": ["onnx", "openvino"], "torch": ["torch_export"]}[to]
    for name in [*modules, "quantize"] if precision == "int8" else modules:
        importlib.import_module(f"frcnn.export.{name}")
    importlib.import_module(_PACKAGES[to])


def _path(source: FasterRCNN | str | Path, to: str, out: str | Path | None, precision: str, svd: int | None) -> Path:
    """The path of the file. Raises ValueError for an invalid target, precision or suffix."""
    if to not in SUFFIXES:
        raise ValueError(f"to '{to}': choose {', '.join(SUFFIXES)} (the path of the file is `out`)")
    if precision not in PRECISIONS[to]:
        why = " (ONNX Runtime's convolutions do not compute in it)" if (to, precision) == ("onnx", "bf16") else ""
        raise ValueError(f"precision '{precision}': not available for {to}{why}; choose {', '.join(PRECISIONS[to])}")
    ending = "" if svd is None else f"-svd{svd}"
    ending += SUFFIXES[to] if precision == "fp32" else f"-{precision}{SUFFIXES[to]}"
    if out is None:
        if isinstance(source, FasterRCNN):
            raise ValueError("out: name the file to write")
        if str(source).startswith(COCO):
            return Path(str(source).removeprefix(COCO) + ending)
        path = Path(source)
        return path / f"model{ending}" if path.is_dir() else path.with_name(path.stem + ending)
    path = Path(out)
    if path.is_dir():
        return path / f"model{ending}"
    if path.suffix != SUFFIXES[to]:
        raise ValueError(f"{path}: a file for {to} ends in {SUFFIXES[to]}")
    return path


def _description(
    model: FasterRCNN,
    precision: str,
    svd: int | None,
    image_size: tuple[int, int] | None,
    batch: int | None,
    images_as: str | None,
) -> Description:
    """The file's description of itself. Raises ValueError for an image size or batch size that the layers reject."""
    min_side, stride = least_side(model), max(level.stride for level in model.rpn.levels)
    least = max(stride, min_side)
    image, config = model.settings.detector.resizing, model.settings
    if image_size is not None:
        height, width = image_size
        if min(image_size) < least:
            raise ValueError(
                f"image size {height}x{width} (height x width): each side must be at least {least} pixels; "
                f"the layers need {min_side}, the coarsest feature map has a stride of {stride}"
            )
        image = image._replace(resize="fit", height=height, width=width, shorter_side=0, longer_side=0, divisor=1)
    if batch is not None and batch < 1:
        raise ValueError(f"batch {batch}: must be 1 or more")
    return Description(
        model.classes,
        image,
        images_as or ("uint8" if image.antialias or image.fixed_point else "float"),
        batch,
        min_side,
        precision,
        svd if svd is not None else model.svd_rank,
        config.base_model.mean,
        config.base_model.std,
        ResultRules(**vars(config.detector.results)),
    )


def _in_layers(model: FasterRCNN, to: str, precision: str) -> FasterRCNN:
    """The model in the file's precision. OpenVINO converts a float32 graph itself."""
    return in_precision(model, torch.float32 if to == "openvino" else _DTYPES.get(precision, torch.float32))


def _write(program: ExportedProgram, description: Description, path: Path, *, raw: bool) -> None:
    """Write one file; its suffix chooses the format."""
    metadata = description.to_metadata()
    if path.suffix == ".pt2":
        from frcnn.export.torch_export import write_torch

        write_torch(program, metadata, path)
        return
    from frcnn.export.onnx import write_onnx

    onnx_file = path.with_suffix(".onnx")
    write_onnx(program, OUTPUTS + RAW_OUTPUTS if raw else OUTPUTS, metadata, onnx_file)
    _convert(onnx_file, path, halves=description.precision == "fp16")


def _write_quantized(
    program: ExportedProgram,
    description: Description,
    path: Path,
    inputs: Iterator[Mapping[str, np.ndarray]],
    *,
    raw: bool,
    log: Callable[[str], None],
) -> Path:
    """Write the quantized file. Returns the float32 file that it was quantized from."""
    from frcnn.export.quantize import quantize

    floating = path.with_name(f"{path.stem}-before{path.suffix}")
    _write(program, description._replace(precision="fp32"), floating, raw=raw)
    log("calibrating int8")
    onnx_file = path.with_suffix(".onnx")
    quantize(floating.with_suffix(".onnx"), onnx_file, inputs, description.to_metadata())
    _convert(onnx_file, path, halves=False)
    return floating


def _convert(onnx_file: Path, path: Path, *, halves: bool) -> None:
    """Convert an ONNX file to OpenVINO if `path` is an .xml file."""
    if path.suffix == ".xml":
        from frcnn.export.openvino import write_openvino

        write_openvino(onnx_file, path, halves=halves)


def _open(data: str | Path | DataSettings | None) -> Dataset | list[Record]:
    """The data set; or, of a folder without annotations, its photos."""
    if data is None:
        raise ValueError(
            "the model does not say what it was trained on, and verification needs photos; name some (data=, --data)"
        )
    settings = data if isinstance(data, DataSettings) else DataSettings(path=str(data))
    folder = Path(str(settings.path))
    try:
        discovery = discover(folder, settings, new="")
        if settings is not data and not discovery.sources:
            return [make_record(photo, []) for photo in discovery.tree.images]
        return open_dataset(folder, settings, ("train", "test"))
    except (ValueError, OSError) as error:
        raise ValueError(f"verification needs photos; name some (data=, --data): {error}") from None


def _photos(classes: Sequence[str], data: Dataset | Sequence[Record], most: int) -> list[Record]:
    """Photos for the verification: at most `most` test images; if these are fewer than `_LEAST`, also training images;
    and one without objects, if there is one."""
    if not isinstance(data, Dataset):
        photos = verify.spread(data, most)
    else:
        photos = verify.spread(data.test, most)
        photos += verify.spread(data.train, max(0, _LEAST - len(photos)))
        if all(len(record.boxes) for record in photos):
            photos += next(
                ([record] for part in (data.test, data.train) for record in part if not len(record.boxes)), []
            )
    if not photos:
        raise ValueError("verification needs photos, and the data has no image; name others (data=, --data)")
    return list(known_objects(photos, classes))


def _calibration(data: Dataset | Sequence[Record] | DataSettings | None, folder: str | Path | None) -> Sequence[Path]:
    """Photos for calibrating int8: those of the folder, else the training images."""
    if folder is not None:
        photos: Sequence[Path] = images_among(Path(folder).rglob("*"))
        reason = f"{folder} has none; name another folder"
    elif data is not None:
        opened = _open(data) if isinstance(data, DataSettings) else data
        photos = [record.image for record in opened.train] if isinstance(opened, Dataset) else []
        reason = "the data has no training images; name a folder"
    else:
        photos, reason = [], "the model does not say what it was trained on; name a folder"
    if not photos:
        raise ValueError(f"int8 needs calibration images: {reason} (calibrate=, --calibrate)")
    return verify.spread(photos, _CALIBRATION)


def _files(path: Path) -> list[Path]:
    """The files of an export; OpenVINO's weights are beside its graph."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
