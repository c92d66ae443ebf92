"""Runtimes: PyTorch for run directories and model files; ONNX Runtime, OpenVINO or PyTorch for exported files.

Exported files need NumPy, Pillow and their runtime; nothing here imports torch before it is needed.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from frcnn.cores import usable_cores
from frcnn.data.transforms import PaddedBatch
from frcnn.files import finish_changes
from frcnn.inference.description import INPUTS, OUTPUTS, RAW_OUTPUTS, Description, ResultRules
from frcnn.inference.onnx_weights import are_finite, from_bfloat16, non_finite_tensor
from frcnn.inference.results import Detections, to_detections
from frcnn.json_text import load_json
from frcnn.resizing import Resizing
from frcnn.run_files import model_path

if TYPE_CHECKING:
    from openvino import Core, InferRequest, Model

    from frcnn.config import ResultSettings
    from frcnn.nn.faster_rcnn import FasterRCNN

DESCRIPTION_FILE = "frcnn.json"
"""Where a .pt2 file keeps its description."""

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""Arrays by the names of INPUTS -> arrays by the names of OUTPUTS (and RAW_OUTPUTS)."""


class BatchResult(NamedTuple):
    """The detections in a batch of images."""

    detections: list[Detections]
    """Of each image, highest confidence first; without path and image."""
    proposals: list[np.ndarray] | None
    """(K, 4) of each image, pixels of the original image, best first; None for exported files, which do not give
    them."""


@runtime_checkable
class Runtime(Protocol):
    """Runs a detector: all that predicting and evaluating need, for PyTorch and for exported files."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; label i is classes[i - 1]."""

    @property
    def resizing(self) -> Resizing:
        """How an image becomes the detector's input."""

    @property
    def result_settings(self) -> ResultSettings | ResultRules:
        """How detections are selected, and evaluated."""

    @property
    def batch_size(self) -> int:
        """The fastest batch size."""

    @property
    def parallel_calls(self) -> int:
        """How many calls of `detect` at a time are the fastest, each with its part of the cores."""

    def detect(self, batch: PaddedBatch) -> BatchResult:
        """Detect in these images."""


class TorchRuntime:
    """Runs a `FasterRCNN` in PyTorch.

    Args:
        model: in evaluation mode, on any device, in any precision; neither may change later.
    """

    def __init__(self, model: FasterRCNN) -> None:
        from frcnn.fast.optimize import optimize

        self.model = model
        self._fast = optimize(model)

    def __reduce__(self) -> tuple[type[TorchRuntime], tuple[FasterRCNN]]:
        """Copies optimize their own model."""
        return TorchRuntime, (self.model,)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def resizing(self) -> Resizing:
        return self.model.settings.detector.resizing

    @property
    def result_settings(self) -> ResultSettings:
        return self.model.settings.detector.results

    @property
    def batch_size(self) -> int:
        """8 on a GPU. On a CPU, 1: an image in a batch of four took 15 % longer than one by one
        (EfficientNet-Lite0, 640 x 480 pixels, one core)."""
        return 1 if self.model.mean.device.type == "cpu" else 8

    @property
    def parallel_calls(self) -> int:
        """On a CPU, two to four, whichever leaves the fewest cores unused, because many layers use several cores badly:
        an image took 40 ms with parallel calls on two cores, and 63 ms with both cores in every layer
        (EfficientNet-Lite0, 640 x 480 pixels)."""
        import torch

        if self.model.mean.device.type != "cpu":
            return 1
        return _calls(torch.get_num_threads())

    def detect(self, batch: PaddedBatch) -> BatchResult:
        import torch

        with torch.no_grad():
            images, sizes, originals = (torch.from_numpy(array).to(self.model.mean.device) for array in batch)
            try:
                features, proposals = self._fast.run_rpn(images, sizes, originals)
            except RuntimeError:
                self._require_large_enough(batch)
                raise
            selected = self._fast.select(*self._fast.run_roi_head(features, proposals, sizes), sizes, originals)
        arrays = (values.cpu().numpy() for values in selected)
        scale = np.tile(batch.original_sizes / batch.image_sizes, 2)[:, [1, 0, 1, 0]]  # (B, 4)
        boxes, valid = proposals.boxes.cpu().numpy() * scale[:, None], proposals.valid.cpu().numpy()
        return BatchResult(
            to_detections(*arrays, classes=self.classes, original_sizes=batch.original_sizes),
            [boxes[i][valid[i]] for i in range(len(boxes))],
        )

    def _require_large_enough(self, batch: PaddedBatch) -> None:
        """Called after an error, because PyTorch does not say why it fails.

        Raises:
            ValueError: the images are too small for the layers.
        """
        from frcnn.nn.model_info import least_side

        height, width = batch.images.shape[2:]
        try:
            least = least_side(self.model)
        except ValueError:  # frames of any size fail, so the size is not the reason
            return
        if min(height, width) < least:
            raise ValueError(_too_small(height, width, least)) from None


def _too_small(height: int, width: int, least: int) -> str:
    """What is wrong with such a frame, for a message."""
    return (
        f"a resized image has {width} x {height} pixels; the layers need at least {least} on each side. Crop it to a "
        f"less extreme shape"
    )


def _calls(threads: int) -> int:
    """How many calls of `detect` share these threads."""
    counts = range(min(4, threads), 1, -1)
    return min(counts, key=lambda count: threads % count, default=1)


class Exported:
    """A file that `frcnn export` wrote, run by its own runtime.

    Args:
        path: FILE.onnx (ONNX Runtime), FILE.xml with FILE.bin (OpenVINO) or FILE.pt2 (PyTorch).
        trust: the file comes from a trusted source. A .pt2 file is opened only then, because it can run any code.
        throughput: several calls of `detect` run at a time, each with its part of the cores: `parallel_calls`. False:
            each call has all cores, and the answer for one image comes sooner.

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: its runtime is not installed.
        ValueError: a damaged file, a file of another program or of a newer format, or a .pt2 file without `trust`.
    """

    def __init__(self, path: Path, *, trust: bool = False, throughput: bool = False) -> None:
        if path.suffix == ".xml":  # an export that was killed may have replaced only one of its two files
            finish_changes(path.parent)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; `frcnn export RUN_DIR --out {path}` makes it")
        if path.suffix == ".pt2" and not trust:  # torch.export.load unpickles members, and sympy evaluates expressions
            raise ValueError(
                f"{path}: not opened, because a .pt2 file can run any code when PyTorch opens it. If you trust its "
                f"source, pass trust=True (--trust-file). To pass a model on, use ONNX: `frcnn export "
                f"RUN_DIR --to onnx`"
            )
        self.path, self._throughput = path, throughput
        metadata, self._run, self._calls = _RUNTIMES[path.suffix](path, throughput)
        self.description = Description.from_metadata(metadata, path)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    @property
    def resizing(self) -> Resizing:
        return self.description.image

    @property
    def result_settings(self) -> ResultRules:
        return self.description.results

    @property
    def batch_size(self) -> int:
        return self.description.batch or 1

    @property
    def parallel_calls(self) -> int:
        """Without `throughput`, 1. With it, an image took 29 ms instead of 31 on two cores in ONNX Runtime, and 26 ms
        instead of 28 in OpenVINO (EfficientNet-Lite0, 847 x 615 pixels); frames of a video gain more, because reading
        and drawing overlap too."""
        return self._calls

    def __reduce__(self) -> tuple[Callable[[Path, bool], Exported], tuple[Path, bool]]:
        """Copies open the file again."""
        return _reopen, (self.path.resolve(), self._throughput)

    def run(self, frames: PaddedBatch) -> dict[str, np.ndarray]:
        """All outputs by name, first dimension B. A model with a fixed batch size is run several times if necessary.

        Raises:
            ValueError: images that are too small, or not of the fixed size.
        """
        height, width = frames.images.shape[2:]
        if min(height, width) < self.description.min_side:
            raise ValueError(f"{self.path}: {_too_small(height, width, self.description.min_side)}")
        try:
            parts = [self._run(inputs) for inputs in self.description.inputs(frames)]
        except Exception as error:  # whose classes differ between runtimes
            if isinstance(error, MemoryError) or "alloc" in str(error):  # no image is to blame
                raise MemoryError(f"{self.path}: its runtime needs more memory than there is ({error})") from error
            raise ValueError(
                f"{self.path}: its runtime fails with images of {width} x {height} pixels ({error})"
            ) from error
        return {name: np.concatenate([part[name] for part in parts])[: len(frames.images)] for name in parts[0]}

    def detect(self, batch: PaddedBatch) -> BatchResult:
        outputs = self.run(batch)
        boxes, scores, labels, valid = arrays = [outputs[name] for name in OUTPUTS]
        known = (labels[valid] >= 1) & (labels[valid] <= len(self.classes))
        if not (known.all() and np.isfinite(boxes[valid]).all() and np.isfinite(scores[valid]).all()):
            raise ValueError(
                f"{self.path}: it returned a class without a name, or boxes or scores that are infinite or NaN; the "
                f"file is damaged, or its precision is too low: export it again"
            )
        return BatchResult(to_detections(*arrays, classes=self.classes, original_sizes=batch.original_sizes), None)


def _reopen(path: Path, throughput: bool) -> Exported:
    return Exported(path, trust=True, throughput=throughput)


def open_runtime(path: str | Path, *, device: str = "auto", trust: bool = False, throughput: bool = False) -> Runtime:
    """The runtime of an exported file, a run directory, a model file or "coco:NAME"; arguments and errors as for
    `Exported` and `frcnn.nn.model_file.load_model`."""
    if is_exported(path):
        return Exported(Path(path), trust=trust, throughput=throughput)
    from frcnn.nn.model_file import load_model

    return TorchRuntime(load_model(path, device=device))


def is_exported(path: str | Path) -> bool:
    """By its suffix; a folder is a run directory, whatever its name."""
    return Path(path).suffix in _RUNTIMES and not Path(path).is_dir()


def model_files(path: str | Path) -> list[Path]:
    """The files that hold the weights of a model; none for "coco:NAME"."""
    path = Path(path)
    if path.is_dir():
        return [model_path(path)]
    files = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    return [file for file in files if file.is_file()]


def model_sha256(path: str | Path) -> str:
    """Tells one version of a model from another: the hash of its files, or of the name in "coco:NAME"."""
    files = model_files(path)
    digest = hashlib.sha256(b"" if files else str(path).encode())
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class _Opened(NamedTuple):
    """An exported file in its runtime."""

    metadata: dict[str, str]
    run: Run
    calls: int = 1
    """Calls of `run` at a time that are the fastest."""


def _thread_limit() -> int:
    """How many threads this process may use; 0: nobody has said. ONNX Runtime and OpenVINO do not look at this
    variable, with which launchers of several processes divide the cores."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() else 0


def _onnx_runtime(path: Path, throughput: bool) -> _Opened:
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # those that Windows collects; `frcnn/__init__.py` stops all others
    onnxruntime.set_default_logger_severity(3)  # errors alone
    try:
        wrong = non_finite_tensor(path)
    except ValueError as error:
        raise ValueError(f"{path}: damaged, or not a model that `frcnn export` wrote ({error})") from None
    _require_finite(wrong, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _thread_limit()  # 0: one for each core
    calls = 1
    if throughput:
        threads = _thread_limit() or usable_cores()
        calls = _calls(threads)
        options.intra_op_num_threads = threads - calls + 1  # each call brings its own, the others are shared
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whose classes differ between versions
        raise ValueError(f"{path}: damaged, or not a model that ONNX Runtime can run ({error})") from None
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return _Opened(dict(session.get_modelmeta().custom_metadata_map), run, calls)


_CORE_LOCK = Lock()


@cache
def _made_once(core: type[Core]) -> Core:
    return core()


def openvino_core() -> Core:
    """The one core of this process, which is never closed.

    A core gives its thread a stack for signals, and takes it back when it is closed. If two cores are closed in the
    order in which they were made, the stack of the first one stays in use, without memory: the next signal, e.g.
    Ctrl-C, ends the process by a segmentation fault (OpenVINO 2026.4).

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
    """
    from openvino import Core

    with _CORE_LOCK:
        return _made_once(Core)


def _openvino(path: Path, throughput: bool) -> _Opened:
    core = openvino_core()
    try:
        model = core.read_model(path)
        _require_finite(_non_finite_constant(model, path), path)
        # OpenVINO keeps the metadata of the ONNX file here. A damaged file may have other things than texts there.
        info = model.get_rt_info("framework").value if model.has_rt_info("framework") else None
        values = info.items() if isinstance(info, dict) else ()
        metadata = {name: value for name, value in values if isinstance(value, str)}
        # By default, OpenVINO computes float32 files in bfloat16 on CPUs that have it. Told to use bfloat16, it also
        # does so on CPUs without it: AlexNet took thirty times as long, EfficientNet-Lite0 ten times.
        bf16 = metadata.get("precision") == "bf16" and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        calls = _calls(_thread_limit() or usable_cores()) if throughput else 1
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": _thread_limit(),  # 0: one for each core
            "NUM_STREAMS": calls,
        }
        compiled = core.compile_model(model, "CPU", hints)
    except RuntimeError as error:
        raise ValueError(f"{path}: damaged, or not a model that OpenVINO can run ({error})") from None
    names = [output.get_any_name() for output in compiled.outputs]
    idle: SimpleQueue[InferRequest] = SimpleQueue()  # a request runs one call at a time
    for _ in range(calls):
        idle.put(compiled.create_infer_request())

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        request = idle.get()
        try:
            return dict(zip(names, request.infer(dict(inputs)).values(), strict=True))
        finally:
            idle.put(request)

    return _Opened(metadata, run, calls)


def _non_finite_constant(model: Model, path: Path) -> str | None:
    """The name of a constant that is not finite; None: there is none.

    Raises:
        ValueError: the model has operators that hide constants; frcnn exports none.
    """
    for constant in model.get_ops():
        if constant.get_type_name() in ("If", "Loop", "TensorIterator"):
            raise ValueError(f"{path}: has an operator {constant.get_type_name()}, so `frcnn export` did not write it")
        if constant.get_type_name() == "Constant" and constant.get_element_type().is_real():
            values: np.ndarray = constant.data
            is_bfloat16 = constant.get_element_type().to_string() == "bf16"
            if not are_finite(from_bfloat16(values.view(np.uint16)) if is_bfloat16 else values):
                return str(constant.get_friendly_name())
    return None


def _require_finite(tensor: str | None, path: Path) -> None:
    """Raise an error if a tensor is not finite.

    Args:
        tensor: its name; None: all are finite.
    """
    if tensor is not None:
        raise ValueError(f"{path}: damaged, {tensor} has infinite or NaN values; export it again")


def _is_finite(value: object) -> bool:
    import torch

    if not isinstance(value, torch.Tensor):
        return True
    infinite = value.isinf()
    return bool(not value.isnan().any() and (infinite.all() or not infinite.any()))


def _torch_export(path: Path, throughput: bool) -> _Opened:
    import torch
    import torchvision  # noqa: F401  # its operators are in the file

    from frcnn.fast.nms import blocked_nms  # its import registers ours

    files: dict[str, Any] = {DESCRIPTION_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")  # PyTorch 2.12; nothing writes there
            program = torch.export.load(path, extra_files=files)
    except Exception as error:  # of zipfile, pickle, torch, ...
        raise ValueError(f"{path}: damaged, or not a program that PyTorch can run ({error})") from None
    tensors = program.state_dict | program.constants
    _require_finite(next((name for name, value in tensors.items() if not _is_finite(value)), None), path)
    model = program.module()
    for node in model.graph.nodes:
        if node.target is torch.ops.frcnn.nms.default:
            node.target = blocked_nms
    model.recompile()

    @torch.no_grad()
    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = model(*(torch.from_numpy(inputs[name]) for name in INPUTS))
        return {name: output.numpy() for name, output in zip(OUTPUTS + RAW_OUTPUTS, outputs, strict=False)}

    try:
        metadata = load_json(files[DESCRIPTION_FILE] or "{}")
    except ValueError as error:
        raise ValueError(f"{path}: damaged, its {DESCRIPTION_FILE} cannot be read ({error}); export it again") from None
    calls = _calls(torch.get_num_threads()) if throughput else 1
    return _Opened(metadata if isinstance(metadata, dict) else {}, run, calls)


_RUNTIMES: dict[str, Callable[[Path, bool], _Opened]] = {
    ".onnx": _onnx_runtime,
    ".xml": _openvino,
    ".pt2": _torch_export,
}
