"""Exporting a detector: record it, write it, prove it, and only then keep the file."""

import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.export import ExportedProgram

from frcnn.config import DataSettings, ImageSettings
from frcnn.data.dataset import find_format, read_split
from frcnn.data.images import images_among
from frcnn.data.records import make_record
from frcnn.data.transforms import frames_of
from frcnn.deploy import parity
from frcnn.deploy.graph import Deployed, in_precision, least_side, record
from frcnn.detectors import OUTPUTS, RAW_OUTPUTS, Description, Exported
from frcnn.evaluation.report import require_known_classes
from frcnn.files import PARTIAL, whole_files
from frcnn.nn.batch_norm import unfold_batch_norm
from frcnn.nn.checkpoint import COCO, load
from frcnn.nn.compression import compressed
from frcnn.nn.detector import FasterRCNN
from frcnn.types import Frames, Record

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
    """What was written, and the proof."""

    files: list[Path]
    """The one to name first, and of OpenVINO the one with the weights."""
    proof: Path
    passes: list[parity.Pass]
    quantised: parity.Pass | None
    """For int8: this file, and in the place of PyTorch the same one before it was quantised."""
    compressed: parity.Pass | None
    """For `svd`: this file, and PyTorch before the layers were compressed."""


def export(
    model: FasterRCNN | str | Path,
    to: str = "onnx",
    out: str | Path | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    batch: int | None = None,
    raw: bool = False,
    precision: str = "fp32",
    svd: int | None = None,
    images_as: str | None = None,
    data: str | Path | None = None,
    calibrate: str | Path | None = None,
    max_ap_loss: float | None = None,
    log: Callable[[str], None] = lambda line: None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Export:
    """Write a detector to a file that runs without frcnn, after it has been run on real photos beside PyTorch.

    Args:
        model: a detector, a RUN, a model file, or "coco:NAME".
        to: "onnx"; "openvino" (FILE.xml and FILE.bin); or "torch" (FILE.pt2).
        out: the file; None: model.onnx, model-int8.onnx and so on in the RUN, or beside a model file.
        image_size: (height, width) of the only frame that it takes, into which photos are fitted; None: any, and photos
            are resized as in the training.
        batch: the only number of images that it takes at once; None: any.
        raw: also give the tutorial's `rpn_rois`, `cls_pred`, `bbox_regr`, and `rois_valid`.
        precision: "fp32", "fp16", "bf16" or "int8" (quantised, for processors).
        svd: rank to which fully connected layers are compressed (`frcnn.compressed`); None: they are not.
        images_as: "uint8", (B, H, W, 3), or "float", (B, 3, H, W); RGB, 0..255. None: "uint8", but "float" where photos
            are resized to numbers that are not whole.
        data: photos for the proof, a data set or a folder of images; None: those of the RUN, test images first.
        calibrate: folder of photos from which int8 learns the ranges of numbers; None: the RUN's training images.
        max_ap_loss: how far from PyTorch's the AP may be, for int8 how much lower; None: 0.01, for int8 0.02. In fp32
            not the AP but every detection is compared. With `svd`, also how much lower than before the compression;
            None: 0.02.
        log: called with lines on what is being done.
        on_image: called while the file is proven, with the photos done and their total.

    Raises:
        ValueError: an impossible wish, something that cannot be exported, no photos for the proof, or a file that is
            not the same model: it is not kept.
        ModuleNotFoundError: a package is missing.
    """
    path = _path(model, to, out, precision, svd)
    if calibrate is not None and precision != "int8":
        raise ValueError(f"calibrate {calibrate}: precision {precision} is not calibrated; leave it out, or take int8")
    by_ap = precision != "fp32" or svd is not None
    if max_ap_loss is not None and not by_ap:
        raise ValueError(f"max_ap_loss {max_ap_loss}: in fp32 every detection is compared, not the AP; leave it out")
    require_packages(to, precision)
    whole = model if isinstance(model, FasterRCNN) else load(model, device="cpu")
    description = _describe(whole, precision, svd, image_size, batch, images_as)
    photos = _photos(whole, data, _MOST_FOR_AP if by_ap else _MOST)
    annotated = sum(len(photo.boxes) > 0 for photo in photos)
    if by_ap and not annotated:
        wish = f"precision {precision}" if svd is None else f"svd {svd}"
        raise ValueError(f"{wish}: its proof is the AP, and no photo for it is annotated; name a data set")
    calibration = _calibration(whole, calibrate) if precision == "int8" else []
    detector = whole
    if svd is not None:
        log(f"compressing fully connected layers to rank {svd}")
        detector = compressed(whole, svd)

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=path.parent) as folder:
        written = Path(folder) / path.name
        log(f"writing {path.name}")
        deployed = Deployed(_in_layers(detector, to, precision), uint8=description.input == "uint8", raw=raw)
        program = record(deployed, image_size=image_size, batch=batch)
        floating = None
        if precision == "int8":
            inputs = (each for photo in calibration for each in description.inputs(_framed(photo, description)))
            floating = _write_quantised(program, description, written, inputs, raw=raw, log=log)
        else:
            _write(program, description, written, raw=raw)

        log(f"running it and PyTorch on {len(photos)} photos")
        file, twin = Exported(written), in_precision(detector, torch.float32)
        passes = parity.run_all(file, twin, photos, one_size=image_size is not None, on_image=on_image)
        limits = _MAX_AP_LOSS if max_ap_loss is None else dict.fromkeys(_MAX_AP_LOSS, max_ap_loss)
        reason = parity.verdict(passes, precision, limits[precision])
        compression = None
        if reason is None and svd is not None:
            compression = parity.run(file, in_precision(whole, torch.float32), photos, name=f"svd {svd}")
            reason = parity.verdict([compression], "svd", limits["svd"])
        if reason is not None:
            raise ValueError(f"{path}: not kept, since it is not the same model: {reason}")
        quantised = None if floating is None else parity.run(file, Exported(floating), photos)

        files = {path.with_suffix(part.suffix): part for part in _files(written)}
        facts = {
            "target": to,
            "precision": precision,
            "versions": {name: version(name) for name in ("frcnn", "torch", _PACKAGES[to])},
            "sha256": {place.name: hashlib.sha256(part.read_bytes()).hexdigest() for place, part in files.items()},
            "rule": _rule(precision, limits[precision]),
            "photos": [str(photo.image) for photo in photos],
            "photos_without_objects": len(photos) - annotated if annotated else None,
            "passes": [parity.to_json(one, "pytorch") for one in passes],
            **({} if quantised is None else {"quantisation": parity.to_json(quantised, "before")}),
            **(
                {}
                if compression is None
                else {"compression": {"rule": _rule("svd", limits["svd"]), **parity.to_json(compression, "before")}}
            ),
        }
        proof = path.with_name(f"{path.name}.parity.json")
        with whole_files(*files, proof) as (*partials, partial_proof):
            for proven, partial in zip(files.values(), partials, strict=True):
                os.replace(proven, partial)
            partial_proof.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Export(list(files), proof, passes, quantised, compression)


def require_packages(to: str, precision: str = "fp32") -> None:
    """Raises ModuleNotFoundError if a package is missing that `export` needs."""
    modules = {"onnx": ["onnx"], "openvino": ["onnx", "openvino"], "torch": ["torch_export"]}[to]
    for name in [*modules, "quantize"] if precision == "int8" else modules:
        importlib.import_module(f"frcnn.deploy.{name}")
    importlib.import_module(_PACKAGES[to])


def _path(model: FasterRCNN | str | Path, to: str, out: str | Path | None, precision: str, svd: int | None) -> Path:
    """Where the file goes; checks what is wished for."""
    if to not in SUFFIXES:
        raise ValueError(f"to '{to}': there is no such target; choose {', '.join(SUFFIXES)}")
    if precision not in PRECISIONS[to]:
        why = " (ONNX Runtime's convolutions do not compute in it)" if (to, precision) == ("onnx", "bf16") else ""
        raise ValueError(f"precision '{precision}': not there for {to}{why}; choose {', '.join(PRECISIONS[to])}")
    ending = "" if svd is None else f"-svd{svd}"
    ending += SUFFIXES[to] if precision == "fp32" else f"-{precision}{SUFFIXES[to]}"
    if out is None:
        if isinstance(model, FasterRCNN):
            raise ValueError("out: name the file to write")
        if str(model).startswith(COCO):
            return Path(str(model).removeprefix(COCO) + ending)
        place = Path(model)
        return place / f"model{ending}" if place.is_dir() else place.with_name(place.stem + ending)
    path = Path(out)
    if path.is_dir():
        return path / f"model{ending}"
    if path.suffix != SUFFIXES[to]:
        raise ValueError(f"{path}: a file for {to} ends in {SUFFIXES[to]}")
    return path


def _describe(
    detector: FasterRCNN,
    precision: str,
    svd: int | None,
    image_size: tuple[int, int] | None,
    batch: int | None,
    images_as: str | None,
) -> Description:
    """What the file says of itself; checks the sizes."""
    min_side, stride = least_side(detector), max(level.stride for level in detector.rpn.levels)
    least = max(stride, min_side)
    image, config = detector.image_settings, detector.config
    if image_size is not None:
        height, width = image_size
        if min(image_size) < least:
            raise ValueError(
                f"image size {height}x{width}: each side must be at least {least} pixels; the layers need {min_side}, "
                f"the coarsest feature map has a stride of {stride}"
            )
        image = ImageSettings(resize="fit", height=height, width=width, interpolation=image.interpolation)
    if batch is not None and batch < 1:
        raise ValueError(f"batch {batch}: must be 1 or more")
    return Description(
        detector.classes,
        image,
        images_as or ("float" if image.interpolation == "point" else "uint8"),
        batch,
        min_side,
        precision,
        svd,
        config.base_model.mean,
        config.base_model.std,
        config.detector.results,
        DataSettings(),  # as `frcnn evaluate RUN --data` reads them; where the RUN's lay is nobody's business
    )


def _in_layers(detector: FasterRCNN, to: str, precision: str) -> FasterRCNN:
    """With layers as the file has them: one by one, as runtimes and their tools know them. OpenVINO lowers precision
    itself, when it stores or runs a file."""
    detector = in_precision(detector, torch.float32 if to == "openvino" else _DTYPES.get(precision, torch.float32))
    unfold_batch_norm(detector)
    return detector


def _write(program: ExportedProgram, description: Description, path: Path, *, raw: bool) -> None:
    """One file, in the way that its suffix says."""
    metadata = description.to_metadata()
    if path.suffix == ".pt2":
        from frcnn.deploy.torch_export import write_torch

        write_torch(program, metadata, path)
        return
    from frcnn.deploy.onnx import write_onnx

    onnx_file = path.with_suffix(".onnx")
    write_onnx(program, OUTPUTS + RAW_OUTPUTS if raw else OUTPUTS, metadata, onnx_file)
    _convert(onnx_file, path, halves=description.precision == "fp16")


def _write_quantised(
    program: ExportedProgram,
    description: Description,
    path: Path,
    inputs: Iterator[Mapping[str, np.ndarray]],
    *,
    raw: bool,
    log: Callable[[str], None],
) -> Path:
    """The quantised file; returns the one before it."""
    from frcnn.deploy.quantize import quantize

    floating = path.with_name(f"{path.stem}-before{path.suffix}")
    _write(program, description._replace(precision="fp32"), floating, raw=raw)
    log("learning the ranges of numbers from photos")
    onnx_file = path.with_suffix(".onnx")
    quantize(floating.with_suffix(".onnx"), onnx_file, inputs, description.to_metadata())
    _convert(onnx_file, path, halves=False)
    return floating


def _convert(onnx_file: Path, path: Path, *, halves: bool) -> None:
    """An ONNX file to one of OpenVINO, if that is what `path` says."""
    if path.suffix == ".xml":
        from frcnn.deploy.openvino import write_openvino

        write_openvino(onnx_file, path, halves=halves)


def _photos(detector: FasterRCNN, data: str | Path | None, most: int) -> list[Record]:
    """For the proof: at most so many test images, and training images if these are few; among them one without objects,
    if there is one."""
    named, settings = (detector.config.data.path, detector.config.data) if data is None else (data, DataSettings())
    if named is None:
        raise ValueError(
            "the model does not say what it was trained on, and the proof needs photos: name some with --data"
        )
    folder = Path(named)
    try:
        if data is not None and find_format(folder, settings, of_new="") == "":
            photos = parity.spread(images_among(folder.iterdir()), most)
            return [make_record(photo, []) for photo in photos]
        test, train = (read_split(folder, split, settings) for split in ("test", "train"))
    except (ValueError, OSError) as error:
        raise ValueError(f"the proof needs photos, name some with --data: {error}") from None
    found = parity.spread(test, most)
    found += parity.spread(train, max(0, _LEAST - len(found)))
    if all(len(record.boxes) for record in found):
        found += next(([record] for part in (test, train) for record in part if not len(record.boxes)), [])
    if not found:
        raise ValueError(f"{folder}: has no image, and the proof needs photos: name some with --data")
    require_known_classes(found, detector.classes)
    return found


def _calibration(detector: FasterRCNN, folder: str | Path | None) -> Sequence[Path]:
    """Photos like those that the model will see."""
    if folder is not None:
        photos: Sequence[Path] = images_among(Path(folder).rglob("*"))
        reason = f"{folder} has none; name another folder with --calibrate"
    elif detector.config.data.path is not None:
        photos = [record.image for record in read_split(Path(detector.config.data.path), "train", detector.config.data)]
        reason = f"{detector.config.data.path} has no training images; name a folder with --calibrate"
    else:
        photos, reason = [], "the model does not say what it was trained on; name a folder with --calibrate"
    if not photos:
        raise ValueError(f"int8 learns the ranges of numbers from photos: {reason}")
    return parity.spread(photos, _CALIBRATION)


def _framed(photo: Path, description: Description) -> Frames:
    return frames_of([photo], description.image)


def _files(path: Path) -> list[Path]:
    """Of an export, the one to name first; OpenVINO's weights lie beside its graph."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def _rule(change: str, max_ap_loss: float) -> str:
    if change == "fp32":
        return f"every detection of the same class, its box within {parity.PIXELS} px, its score within {parity.SCORE}"
    return f"AP at most {max_ap_loss} lower"
