"""The object that a user works with: the same for PyTorch models and exported files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, TypedDict, Unpack, overload

from frcnn.data.dataset import SPLITS, Dataset, data_of_run
from frcnn.data.formats.source import ALL
from frcnn.data.tiles import OVERLAP
from frcnn.data.tree import split_word
from frcnn.evaluation.evaluate import evaluate
from frcnn.files import as_path
from frcnn.inference.inputs import ImageLike, is_folder, is_one, list_images
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import missing_attribute
from frcnn.inference.runtimes import Runtime, TorchRuntime, open_runtime
from frcnn.messages import plural
from frcnn.run_files import model_path

if TYPE_CHECKING:
    from frcnn.config import DataSettings
    from frcnn.evaluation.metrics import Metrics
    from frcnn.export.export import Export
    from frcnn.inference.results import Detections
    from frcnn.nn.faster_rcnn import FasterRCNN


_OTHER_LIBRARIES = {
    "names": "classes",
    "class_names": "classes",
    "detect": "predict",
    "val": "evaluate",
    "validate": "evaluate",
    "test": "evaluate",
    "train": "frcnn.train(data)",
    "fit": "frcnn.train(data)",
    "to": "frcnn.load(path, device=...), or in_precision",
    "half": "in_precision('fp16')",
}
"""Names of other libraries -> ours, for messages."""

_OTHER_ARGUMENTS = {
    **dict.fromkeys(("conf", "confidence", "score_threshold", "conf_thres", "thresh"), "threshold"),
    **dict.fromkeys(("source", "image", "img"), "images, the first argument"),
    **dict.fromkeys(("stream", "batch", "batch_size"), "predict_iter, which holds few images in memory"),
    "save": "save(path) of the detections",
    "device": "frcnn.load(path, device=...)",
    "iou": "frcnn.train(..., settings={'detector.results.nms_threshold': ...}): it belongs to the model",
    "imgsz": "frcnn.train(..., settings={'detector.image.shorter_side': ...}): it belongs to the model",
}
"""Arguments of other libraries' `predict` -> ours, for messages."""


def load(path: str | Path, *, device: str = "auto", trust: bool = False, throughput: bool = False) -> Detector:
    """Open a trained detector.

    Args:
        path: a run directory, a `model.safetensors`, an exported file (`.onnx`, `.xml`, `.pt2`), or "coco:NAME":
            torchvision's detector NAME trained on COCO, e.g. "coco:fasterrcnn_resnet50_fpn", whose weights are
            downloaded once.
        device: "auto" (cuda if there is one), "cpu", "cuda" or "mps"; exported files run on the CPU.
        trust: open a `.pt2` file, which can run any code, because its source is trusted.
        throughput: for many images or a video: an exported file detects in several images at a time, each on its share
            of the cores. Many images take less time in total; a single image takes longer. A PyTorch model always does
            so with several images.

    Raises:
        FileNotFoundError: there is no model.
        ModuleNotFoundError: the runtime of an exported file is not installed.
        ValueError: a damaged file, a file of another program or of a newer format, or a `.pt2` file without `trust`.
    """
    path = as_path(path, "path")
    return Detector(open_runtime(path, device=device, trust=trust, throughput=throughput), path=path)


class _PredictOptions(TypedDict, total=False):
    threshold: float | None
    tile: int | None
    overlap: float
    channels: str
    allow_urls: bool
    on_error: str


class Detector:
    """Detects objects in images. Threads can share it; it can be pickled and copied.

    Args:
        model: a `FasterRCNN` in memory, or a runtime.
        path: where it was loaded from.
    """

    def __init__(self, model: FasterRCNN | Runtime, *, path: str | Path | None = None) -> None:
        if isinstance(model, str | Path):
            raise TypeError(f"Detector: {str(model)!r} is a path; open it with frcnn.load({str(model)!r})")
        if not isinstance(model, Runtime):
            from frcnn.nn.faster_rcnn import FasterRCNN

            if not isinstance(model, FasterRCNN):
                kind = f"{type(model).__module__}.{type(model).__name__}"
                raise TypeError(
                    f"Detector: the model must be a frcnn.FasterRCNN, not {kind}; `frcnn.load` opens a trained one, "
                    f"`frcnn.from_torchvision` converts one of torchvision"
                )
        self.runtime: Runtime = model if isinstance(model, Runtime) else TorchRuntime(model)
        self.path = None if path is None else str(path)

    def __repr__(self) -> str:
        source = "in memory" if self.path is None else self.path
        return f"<Detector {source}: {plural(len(self.classes), 'class', 'classes')} ({', '.join(self.classes)})>"

    if not TYPE_CHECKING:  # else every name would be an attribute

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(self, name, _OTHER_LIBRARIES)

        def __call__(self, *_: object, **__: object) -> Any:
            raise TypeError("'Detector' object is not callable; use predict")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names: `detections.class_id` indexes them."""
        return self.runtime.classes

    @property
    def model(self) -> FasterRCNN:
        """The PyTorch model.

        Raises:
            ValueError: an exported file has none.
        """
        if not isinstance(self.runtime, TorchRuntime):
            raise ValueError(f"{self.path}: an exported file has no PyTorch model; load the run directory instead")
        return self.runtime.model

    # No type tells a folder from an image file: both are paths. Type a folder's list with `predict_iter`.
    @overload
    def predict(  # type: ignore[overload-overlap]  # str and bytes are iterable too
        self, images: ImageLike, **options: Unpack[_PredictOptions]
    ) -> Detections: ...
    @overload
    def predict(self, images: Iterable[ImageLike], **options: Unpack[_PredictOptions]) -> list[Detections]: ...
    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        threshold: float | None = None,
        tile: int | None = None,
        overlap: float = OVERLAP,
        channels: str = "rgb",
        allow_urls: bool = False,
        on_error: str = "raise",
        **unknown: Never,
    ) -> Detections | list[Detections]:
        """Detect objects.

        Args:
            images: one image, several, or a folder. An image is a path, a Pillow image (its EXIF orientation is
                applied), an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), a torch tensor (H, W) or (C, H, W), the
                bytes of a file or an open file. Arrays and tensors hold uint8, or floats in 0..1. A folder stands for
                its images in natural order, without hidden files and subfolders.
            threshold: least confidence of a detection, 0..1; None: the detector's own
                (`detector.results.predict_threshold`, 0.5 if nobody changed it). The NMS threshold belongs to the model
                (`detector.results.nms_threshold`).
            tile: side of a tile in pixels, e.g. 1024. A larger image is predicted in tiles and as a whole, and the
                detections are merged, so that small objects are found. None: as in training (`detector.image.tile`),
                where whole images are the default; 0: never.
            overlap: least fraction of a tile that it shares with its neighbor, 0..0.9.
            channels: order of an array's channels, "rgb" or "bgr" (OpenCV).
            allow_urls: also take http(s) addresses, and download them (at most 100 MB each).
            on_error: "raise", or "skip" to warn of an image that cannot be predicted and leave it out.
            unknown: no other argument is accepted; the error says what to use instead.

        Returns:
            One image gives one `Detections`, not a list. Iterating it gives single objects. Several images or a folder
            give a list of `Detections`, in order. Boxes are in pixels of the original image.

        Raises:
            FileNotFoundError, ValueError: no such file, not an image, a folder without images, an array with other
                values, an image that is too large to predict as a whole, or an invalid tile or overlap.
            TypeError: not an image of any kind, or an unknown argument.
        """
        detections = list(
            self.predict_iter(
                images,
                threshold=threshold,
                tile=tile,
                overlap=overlap,
                channels=channels,
                allow_urls=allow_urls,
                on_error=on_error,
                **unknown,
            )
        )
        return detections[0] if is_one(images) and not is_folder(images) and detections else detections

    def predict_iter(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        threshold: float | None = None,
        tile: int | None = None,
        overlap: float = OVERLAP,
        channels: str = "rgb",
        allow_urls: bool = False,
        on_error: str = "raise",
        **unknown: Never,
    ) -> Iterator[Detections]:
        """`predict`, one image after the other: few images are held in memory at any time. Same arguments and errors;
        `images` can be a generator."""
        for name in unknown:
            hint = f"; use {_OTHER_ARGUMENTS[name]}" if name in _OTHER_ARGUMENTS else ""
            raise TypeError(f"predict() got an unexpected keyword argument '{name}'{hint}")
        threshold = self._threshold(threshold)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: {on_error!r} must be 'raise' or 'skip'")
        return predict_each(
            self.runtime,
            list_images(images),
            threshold=threshold,
            tile=tile,
            overlap=overlap,
            channels=channels,
            allow_urls=allow_urls,
            on_error=None if on_error == "raise" else _warn,
        )

    def track(
        self,
        video: str | Path,
        *,
        threshold: float | None = None,
        every: int = 1,
        tile: int | None = None,
        overlap: float = OVERLAP,
        track_buffer: float = 30,
        allow_urls: bool = False,
    ) -> Iterator[Detections]:
        """Track the objects of a video from frame to frame. Needs the program ffmpeg and `pip install scipy`.

        Args:
            video: a file; a folder of frames, in natural order; the number of a camera, e.g. "0"; or an http(s) or rtsp
                address.
            threshold: score from which a detection starts a track; None: the detector's own. Detections from 0.1
                continue a track.
            every: 2: every second frame only, and so on.
            tile, overlap: as in `predict`.
            track_buffer: frames for which a track is kept while its object is not detected.
            allow_urls: open addresses.

        Yields:
            The detections of each frame, with `tracker_id` (the number of the object; -1: of no track yet), `seconds`
            and `image`. Few frames are held in memory.

        Raises:
            FileNotFoundError, ValueError: no such video, ffmpeg is missing or cannot read it, or an invalid threshold.
                If a file is damaged, the frames that can be read come first.

        Source:
            Zhang et al. 2022, arXiv:2110.06864 (ByteTrack); see `frcnn.tracking.tracker.update_tracks`.
        """
        from frcnn.tracking.track_video import track_frames
        from frcnn.tracking.tracker import TrackerSettings

        settings = TrackerSettings(threshold=self._threshold(threshold), track_buffer=track_buffer)
        frames = track_frames(
            self.runtime, video, settings, every=every, tile=tile, overlap=overlap, allow_urls=allow_urls
        )
        return (frame.detections for frame in frames)

    def _threshold(self, threshold: float | None) -> float:
        """The detector's own if it is None."""
        threshold = self.runtime.result_settings.predict_threshold if threshold is None else threshold
        if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold: {threshold!r} must be a number from 0 to 1")
        return threshold

    def evaluate(
        self,
        data: str | Path | DataSettings | None = None,
        *,
        split: str | None = None,
        format: str | None = None,
        on_image: Callable[[int, int], None] = lambda done, total: None,
    ) -> Metrics:
        """Evaluate on one split of a data set, by default on the test images.

        Args:
            data: folder of images and annotations, or the settings that say where it is and how to read it; None: the
                data that the run directory was trained on. If this is named, its splits are those of the training.
            split: "train", "val" or "test"; None: "test", or all images of a folder `data` that has at most one split.
            format: of `data`, e.g. "coco"; None: auto-detected.
            on_image: called with the numbers of images done and in total.

        Raises:
            FileNotFoundError, ValueError: no such data, no image in the split, or no class that the model knows.
        """
        from frcnn.config import DataSettings

        if split is not None and split not in SPLITS:
            raise ValueError(f"split '{split}': choose train, val or test")
        if isinstance(data, DataSettings):
            settings: DataSettings | None = data
        else:
            settings = None if self.path is None else data_of_run(self.path)
            data = None if data is None else as_path(data, "data")
            if data is not None and not _is_data_of(settings, data):
                settings = DataSettings(path=str(data))
        if settings is not None and format is not None:
            settings = settings.model_copy(update={"format": format})
        if settings is None or settings.path is None:
            raise ValueError("data: the detector does not say what it was trained on; name a folder (data=, --data)")
        folder = Path(settings.path)
        dataset = Dataset(folder, settings)
        names = [split_word(name) for name in dataset.discovery.splits]
        is_split = settings.split or settings.fold or settings.val_fraction
        if isinstance(data, str | Path) and not is_split and len(names) == 1 and split in (None, *names):
            (name,) = dataset.discovery.splits
            split, records = None if name == ALL else name, dataset.train or dataset.test
        else:
            split = split or "test"
            records = dataset.records(split)
        if not len(records):
            raise ValueError(
                f"{folder}: has no images in the split '{split}'; choose another (split=, --split). To evaluate on the "
                f"test images of a run, leave out the data"
            )
        return evaluate(self.runtime, records, split=split, workers=settings.workers, on_image=on_image)

    def compress(self, rank: int) -> Detector:
        """A faster, less exact detector: each fully connected layer of the RoI head becomes two, with `rank` values
        between them (truncated SVD). It can predict, evaluate and export; it cannot be saved or trained.

        Args:
            rank: how many singular values are kept, e.g. 1024 of 4096; fewer are faster and less exact. Layers that
                would not become smaller, and the output layers (logits and deltas), do not change.

        Raises:
            ValueError: the rank is under 1, no layer would become smaller, the model is compressed already, or an
                exported file.

        Source:
            Girshick 2015, arXiv:1504.08083, section 3.1. Differs: one rank for all layers.
        """
        from frcnn.fast.svd import compress

        return Detector(compress(self.model, rank), path=self.path)

    def in_precision(self, precision: str) -> Detector:
        """A detector whose layers compute in this precision; box arithmetic and RoI pooling stay in float32.

        Args:
            precision: "fp32", "bf16" or "fp16"; or "auto": bf16 if the hardware has it and the model was trained with
                precision auto or bf16, else fp32.

        Raises:
            ValueError: an unknown precision, or an exported file, whose precision cannot change.
        """
        from copy import deepcopy

        from frcnn.nn.device import choose_precision

        model = deepcopy(self.model)
        if precision == "auto" and model.settings.precision not in ("auto", "bf16"):
            precision = "fp32"
        return Detector(model.set_precision(choose_precision(precision, model.mean.device)), path=self.path)

    def save(self, path: str | Path) -> None:
        """Write the PyTorch model to a file that `frcnn.load` reads.

        Args:
            path: the file, e.g. "model.safetensors"; or a folder, for `model.safetensors` in it.

        Raises:
            ValueError: another suffix, an exported file, a compressed model, or one whose layers are not in fp32.
        """
        from frcnn.nn.device import precision_of
        from frcnn.nn.model_file import save_model

        file = model_path(path)
        if file.suffix != ".safetensors":
            raise ValueError(f"{file}: a model file ends in .safetensors")
        precision = precision_of(self.model)
        if precision != "fp32":
            raise ValueError(
                f"{file}: the layers are in {precision}, which would round the weights; save the detector that "
                f"`in_precision` was called on"
            )
        save_model(self.model, file)

    def export(self, to: str = "onnx", out: str | Path | None = None, **options: Any) -> Export:
        """Write the model to a file that runs without frcnn, after comparing both on real photos.

        Args:
            to: the format: "onnx", "openvino" or "torch".
            out: the file; None: `model.onnx` and so on, in the run directory.
            options: `image_size`, `batch`, `raw`, `precision`, `svd`, `images_as`, `data`, `calibrate`, `max_ap_loss`,
                `log` and `on_image` of `frcnn.export.export.export`, e.g. `precision="int8"` or `data="photos"`.

        Returns:
            What was written: `files` (`files[0]` is the one to load), and the comparison.

        Raises:
            ValueError: invalid options, an exported file, or a written file whose detections differ; it is not kept.
            ModuleNotFoundError: a package is missing.
        """
        from frcnn.export.export import export

        if "format" in options:
            raise TypeError(f"export: there is no argument 'format'; use `to`, e.g. export(to={options['format']!r})")
        from frcnn.nn.device import precision_of

        model = self.model  # an exported file has none
        options = {"precision": precision_of(model), **options}
        if self.path is None:
            return export(model, to, out, **options)
        return export(self.path, to, out, **{"svd": model.svd_rank, **options})  # compressed again, so that it compares


def _is_data_of(settings: DataSettings | None, data: str | Path) -> bool:
    """Whether these settings are of this folder. They then say how it was split."""
    return settings is not None and settings.path is not None and Path(settings.path).resolve() == Path(data).resolve()


def _warn(error: Exception) -> None:
    warnings.warn(f"skipped: {error}", stacklevel=2)
