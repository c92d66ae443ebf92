"""Anything that detects: a RUN, a model file, or a file that `frcnn export` wrote and that a runtime runs.

Exported files need NumPy, Pillow and their runtime; nothing here imports torch before it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np

from frcnn.types import AtOnce, Detections, Frames, Prediction, to_predictions

if TYPE_CHECKING:
    from frcnn.config import DataSettings, ImageSettings, ResultSettings

FORMAT_VERSION = 1
INPUTS = ("images", "image_sizes", "original_sizes")
OUTPUTS = Detections._fields
RAW_OUTPUTS = ("rpn_rois", "cls_pred", "bbox_regr", "rois_valid")
DESCRIPTION_FILE = "frcnn.json"
"""Where a .pt2 file keeps its description."""

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""Arrays by the names of INPUTS -> arrays by the names of OUTPUTS (and RAW_OUTPUTS)."""


class Detector(Protocol):
    """What predicting and evaluating need."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; label i is classes[i - 1]."""

    @property
    def image_settings(self) -> ImageSettings:
        """How images become its input."""

    @property
    def at_once(self) -> AtOnce:
        """With how many images it is fastest."""

    def detect(self, frames: Frames, names: Sequence[str]) -> list[Prediction]:
        """The detections in these images, best first."""


class Description(NamedTuple):
    """What an exported file says of itself: all that a program needs besides the file."""

    classes: tuple[str, ...]
    image: ImageSettings
    """How a photo is resized and framed."""
    input: str
    """Of `images`: "uint8", (B, H, W, 3) RGB, or "float", (B, 3, H, W) RGB, 0..255, not normalised: the model does."""
    batch: int | None
    """Images at once; None: any number."""
    min_side: int
    """Of the smallest frame that the layers take, pixels. Runtimes do not all say so themselves: some crash."""
    precision: str
    mean: tuple[float, ...]
    """RGB, 0..255, that the model subtracts; then it divides by `std`."""
    std: tuple[float, ...]
    results: ResultSettings
    """By which rules detections were chosen, and are measured."""
    data: DataSettings
    """How folders of data are read."""

    def to_metadata(self) -> dict[str, str]:
        """As flat text: one line a class, numbers separated by spaces, so that a program needs no JSON to read it; only
        `results` and `data`, which `frcnn evaluate` reads, are JSON."""
        image = {f"image.{name}": str(value) for name, value in vars(self.image).items()}
        return {
            "format": "frcnn",
            "format_version": str(FORMAT_VERSION),
            "classes": "\n".join(self.classes),
            **image,
            "input": self.input,
            "batch": "any" if self.batch is None else str(self.batch),
            "min_side": str(self.min_side),
            "precision": self.precision,
            "mean": " ".join(map(str, self.mean)),
            "std": " ".join(map(str, self.std)),
            "results": json.dumps(vars(self.results)),
            "data": json.dumps(vars(self.data)),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> Description:
        """Out of a file's metadata.

        Raises:
            ValueError: the file is of something else, damaged, or of a newer format.
        """
        if metadata.get("format") != "frcnn":
            raise ValueError(f"{path}: `frcnn export` did not write this file, so its classes and input are not known")
        try:
            version = int(metadata["format_version"])
        except (KeyError, ValueError):
            raise ValueError(f"{path}: damaged, its format version cannot be read; export it again") from None
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{path}: has format {version}, this frcnn reads up to {FORMAT_VERSION}; install a newer frcnn"
            )
        image = {
            key.removeprefix("image."): int(value) if value.isdecimal() else value
            for key, value in metadata.items()
            if key.startswith("image.")
        }
        try:
            return cls(
                tuple(metadata["classes"].split("\n")),
                cast("ImageSettings", SimpleNamespace(**image)),
                metadata["input"],
                None if metadata["batch"] == "any" else int(metadata["batch"]),
                int(metadata["min_side"]),
                metadata["precision"],
                tuple(map(float, metadata["mean"].split())),
                tuple(map(float, metadata["std"].split())),
                cast("ResultSettings", SimpleNamespace(**json.loads(metadata["results"]))),
                cast("DataSettings", SimpleNamespace(**json.loads(metadata["data"]))),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: damaged, its description cannot be read ({error}); export it again") from None

    def inputs(self, frames: Frames) -> Iterator[dict[str, np.ndarray]]:
        """What the model is run on: once, or as often as a fixed batch asks for; then the last image fills it up."""
        pixels = frames.images.transpose(0, 2, 3, 1) if self.input == "uint8" else frames.images.astype(np.float32)
        count = len(pixels)
        size = self.batch or count
        arrays = (pixels, frames.image_sizes, frames.original_sizes)
        for start in range(0, count, size):
            rows = np.arange(start, start + size).clip(max=count - 1)
            yield {name: np.ascontiguousarray(array[rows]) for name, array in zip(INPUTS, arrays, strict=True)}


class Exported:
    """A file that `frcnn export` wrote, run by its own runtime.

    Args:
        path: FILE.onnx (ONNX Runtime), FILE.xml with FILE.bin (OpenVINO) or FILE.pt2 (PyTorch).

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: its runtime is not installed.
        ValueError: a damaged file, one of something else, or one of a newer format.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; `frcnn export RUN --out {path}` makes it")
        self.path = path
        metadata, self._run = _RUNTIMES[path.suffix](path)
        self.description = Description.from_metadata(metadata, path)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    @property
    def image_settings(self) -> ImageSettings:
        return self.description.image

    @property
    def at_once(self) -> AtOnce:
        """One call: a runtime has threads of its own, and OpenVINO's model cannot be called twice at a time."""
        return AtOnce(images=self.description.batch or 1, calls=1)

    def run(self, frames: Frames) -> dict[str, np.ndarray]:
        """All outputs by name, first dimension B; a model of a fixed batch is run as often as it takes.

        Raises:
            ValueError: images that are too small, or of another size than the only one that it takes.
        """
        height, width = frames.images.shape[2:]
        if min(height, width) < self.description.min_side:
            raise ValueError(
                f"{self.path}: an image, resized, of {height} x {width} pixels; its layers need "
                f"{self.description.min_side} at least on each side. Crop it to a less extreme shape"
            )
        try:
            parts = [self._run(inputs) for inputs in self.description.inputs(frames)]
        except Exception as error:  # whose classes differ between runtimes
            raise ValueError(f"{self.path}: its runtime fails with images of {height} x {width} ({error})") from error
        return {name: np.concatenate([part[name] for part in parts])[: len(frames.images)] for name in parts[0]}

    def detect(self, frames: Frames, names: Sequence[str]) -> list[Prediction]:
        outputs = self.run(frames)
        return to_predictions(*(outputs[name] for name in OUTPUTS), classes=self.classes, names=names)


def open_detector(model: Detector | str | Path) -> Detector:
    """A detector, or what a path leads to: an exported file, a RUN, a model file, or "coco:NAME"; errors as of
    `Exported` and `frcnn.load`."""
    if not isinstance(model, str | Path):
        return model
    if is_exported(model):
        return Exported(Path(model))
    from frcnn.nn.checkpoint import load

    return load(model)


def is_exported(path: str | Path) -> bool:
    """By its suffix; a folder is a RUN, whatever its name."""
    return Path(path).suffix in _RUNTIMES and not Path(path).is_dir()


def _onnx_runtime(path: Path) -> tuple[dict[str, str], Run]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # errors alone
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # whose classes differ between versions
        raise ValueError(f"{path}: damaged, or not a model that ONNX Runtime can run ({error})") from None
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return dict(session.get_modelmeta().custom_metadata_map), run


def _openvino(path: Path) -> tuple[dict[str, str], Run]:
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(path)
        # Where OpenVINO keeps the metadata of the ONNX file that a model was made of.
        metadata = dict(model.get_rt_info("framework").value) if model.has_rt_info("framework") else {}
        # Left alone, OpenVINO computes in bfloat16 wherever a processor can, also what was exported as float32. Told
        # to, it does where a processor cannot too: AlexNet took thirty times as long, EfficientNet-Lite0 ten times.
        bf16 = metadata.get("precision") == "bf16" and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"})
    except RuntimeError as error:
        raise ValueError(f"{path}: damaged, or not a model that OpenVINO can run ({error})") from None
    names = [output.get_any_name() for output in compiled.outputs]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, compiled(dict(inputs)).values(), strict=True))

    return metadata, run


def _torch_export(path: Path) -> tuple[dict[str, str], Run]:
    import torch
    import torchvision  # noqa: F401  # its operators are in the file

    import frcnn.ops.selection  # noqa: F401  # ... and ours

    files: dict[str, Any] = {DESCRIPTION_FILE: ""}
    try:
        program = torch.export.load(path, extra_files=files)
    except Exception as error:  # of zipfile, pickle, torch, ...
        raise ValueError(f"{path}: damaged, or not a program that PyTorch can run ({error})") from None
    model = program.module()

    @torch.no_grad()
    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = model(*(torch.from_numpy(inputs[name]) for name in INPUTS))
        return {name: output.numpy() for name, output in zip(OUTPUTS + RAW_OUTPUTS, outputs, strict=False)}

    return json.loads(files[DESCRIPTION_FILE] or "{}"), run


_RUNTIMES: dict[str, Callable[[Path], tuple[dict[str, str], Run]]] = {
    ".onnx": _onnx_runtime,
    ".xml": _openvino,
    ".pt2": _torch_export,
}
