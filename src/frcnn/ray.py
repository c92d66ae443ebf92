"""Detection in many images on a Ray cluster. Needs the extra `ray`.

    import frcnn.ray

    frcnn.ray.start("auto")  # on a cluster; without it, frcnn starts one on this machine
    frcnn.ray.predict("photos", "runs/photos", output="detections", concurrency=8)

Ray Data reads the images, starts and restarts the workers, holds back what is too much for the memory, and repeats what
a dead machine has lost.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

# frcnn sends nothing over the network; Ray would report its use. Ray reads this when it starts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.data
import torch
from pyarrow.dataset import dataset as parquet_dataset
from pyarrow.dataset import field
from pyarrow.fs import FileSystem, FileType
from ray.data import ActorPoolStrategy, Dataset, SaveMode
from ray.data.dataset import MaterializedDataset

from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.tiles import OVERLAP
from frcnn.detector import Detector, load
from frcnn.inference.inputs import ImageLike
from frcnn.inference.parts.listing import list_names
from frcnn.inference.parts.predict import is_of_disk
from frcnn.inference.parts.rows import row_of, to_table
from frcnn.inference.predictor import predict_each
from frcnn.messages import short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow

IMAGE_COLUMNS = ("bytes", "image")
"""Where the bytes of an image are looked for; also {"bytes": ..., "path": ...}, as Hugging Face stores images."""
NAME_COLUMNS = ("name", "path", "id", "key")
"""Where the name of an image is looked for."""

_LIGHT = 0.1
"""CPUs of a task that reads or writes. Each worker leaves as much, else such a task would wait forever where the
workers take all CPUs."""
_WORKERS_PER_WRITER = 8
"""Each writer is a process of about 160 MB. Without a limit, Ray started thirty of them on two cores."""


class Done(NamedTuple):
    """What was written."""

    images: int
    errors: int
    """Images that could not be predicted; their rows have an `error`."""


class Predictor:
    """Detects in batches of a dataset. Each worker opens the model once.

    Args:
        model: what `frcnn.load` opens, at the same path on all machines; or a detector, which Ray sends to the workers.
        device: "auto", "cpu", "cuda" or "mps".
        trust: open a `.pt2` file.
        threads: of the worker; None: as Ray or the user says. Ray rounds down the CPUs of a worker.
        rules: threshold, tile and overlap, as for `Detector.predict`.
    """

    def __init__(
        self,
        model: str | Detector,
        *,
        device: str = "auto",
        trust: bool = False,
        threads: int | None = None,
        rules: dict[str, Any] | None = None,
    ) -> None:
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads)  # read by ONNX Runtime and OpenVINO, when a file is opened
            torch.set_num_threads(threads)
        detector = model if isinstance(model, Detector) else load(model, device=device, trust=trust, throughput=True)
        self.runtime = detector.runtime
        self.rules = {"threshold": None, **(rules or {})}
        if self.rules["threshold"] is None:
            self.rules["threshold"] = self.runtime.result_settings.predict_threshold

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """The rows of a batch: see `frcnn.inference.parts`.

        Args:
            batch: a column of IMAGE_COLUMNS with the bytes of image files, and one of NAME_COLUMNS; or the column
                `path` alone, with files that the worker reads.
        """
        names, images = _columns(batch)
        rows: list[dict[str, Any]] = []

        def on_error(error: Exception) -> None:
            if is_of_disk(error):
                raise OSError(f"{error}; mend the disk or the network, and start the job again") from error
            rows.append(row_of(names[len(rows)], error))

        for detections in predict_each(self.runtime, _present(images), on_error=on_error, **self.rules):
            rows.append(row_of(names[len(rows)], detections))
        return to_table(rows)


def _present(images: Sequence[Any]) -> Iterator[ImageLike]:
    """A null is an image that cannot be read."""
    yield from (b"" if image is None else image for image in images)


def _columns(batch: pyarrow.Table) -> tuple[list[str], list[Any]]:
    """The names and the images of a batch."""
    column = next((name for name in IMAGE_COLUMNS if name in batch.column_names), None)
    name_column = next((name for name in NAME_COLUMNS if name in batch.column_names), None)
    if column is None and "path" not in batch.column_names:
        raise ValueError(
            f"dataset: its columns are {', '.join(batch.column_names)}; it needs the bytes of image files in a column "
            f"{' or '.join(IMAGE_COLUMNS)}, and a name in a column {', '.join(NAME_COLUMNS)}; or `path` alone"
        )
    images = batch.column(column or "path").to_pylist()
    names = None if name_column is None else batch.column(name_column).to_pylist()
    if any(isinstance(image, dict) for image in images):
        inner = [image or {} for image in images]
        images = [image.get("bytes") for image in inner]
        names = names or [image.get("path") for image in inner]
    if names is None or any(name is None for name in names):
        raise ValueError(f"dataset: an image has no name; add a column {', '.join(NAME_COLUMNS)} without nulls")
    if not all(isinstance(image, bytes | str | None) for image in images):
        kind = next(type(image).__name__ for image in images if not isinstance(image, bytes | str | None))
        raise ValueError(f"dataset: {column} holds {kind}; it must hold the bytes of image files, not their pixels")
    return list(map(str, names)), images


def start(address: str | None = None) -> None:
    """Connect to a Ray cluster.

    Args:
        address: e.g. "10.0.0.1:6379"; "auto": the cluster that this machine belongs to; "local": start one on this
            machine, without the dashboard; None: the environment variable RAY_ADDRESS, which `ray job submit` sets, or
            "local".
    """
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options = {"include_dashboard": False} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, **options)
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()


def read(source: str | Path) -> Dataset:
    """The images as a dataset that `predict` takes.

    Args:
        source: a folder, a text file (.txt) with one path per line, or a pattern, all visible to every machine; a
            folder of images in an object store, e.g. "s3://bucket/photos"; or Parquet files with the bytes of images
            (a `.parquet` file, or a folder of them that is not in an object store).

    Raises:
        FileNotFoundError, ValueError: no images there.
    """
    text = str(source)
    if text.endswith(".parquet") or (Path(text).is_dir() and any(Path(text).glob("*.parquet"))):
        return ray.data.read_parquet(text, num_cpus=_LIGHT)
    if "://" in text:
        try:
            return _read_addresses(text, file_extensions=sorted(IMAGE_SUFFIXES))
        except ValueError as error:
            raise ValueError(
                f"{text}: has no images that can be read ({short(str(error))}); if it holds Parquet files, pass "
                f"ray.data.read_parquet({text!r})"
            ) from error
    files = {name: str(path.absolute()) for name, path in list_names(text)}  # a list may name an image twice
    if not files:
        raise ValueError(f"{source}: has no images")
    return ray.data.from_items([{"name": name, "path": path} for name, path in files.items()])


def _read_addresses(paths: str | list[str], **options: Any) -> Dataset:
    return ray.data.read_binary_files(paths, include_paths=True, num_cpus=_LIGHT, **options)


def predict(
    dataset_or_paths: Dataset | str | Path | Sequence[str | Path],
    model: str | Path | Detector,
    *,
    output: str | Path,
    concurrency: int | tuple[int, int] | None = None,
    batch_size: int = 64,
    rows_per_file: int = 10_000,
    num_cpus: float = 1,
    num_gpus: float = 0,
    threshold: float | None = None,
    tile: int | None = None,
    overlap: float = OVERLAP,
    trust: bool = False,
) -> Done:
    """Detect in many images, and write Parquet files: one row per image, with the columns of `frcnn predict --parts`.

    On a cluster, first call `start("auto")`. Otherwise this calls `start()`.

    Args:
        dataset_or_paths: a dataset (`Predictor` says which columns), a source of `read`, or a list of the paths or the
            addresses of images. The name of an image is its path relative to the folder; of a list, its absolute path;
            of an object store, its path with the bucket, e.g. "bucket/photos/a.jpg".
        model: as for `Predictor`.
        output: a new folder, also of an object store; every machine must be able to write there.
        concurrency: how many workers; (least, most) lets Ray choose; None: as many as the CPUs (and GPUs) suffice for.
            One CPU stays free for the tasks of Ray that read a dataset, unless it is a list of files. If you name a
            number, leave one CPU free too: Ray waits forever otherwise.
        batch_size: images that a worker gets at a time.
        rows_per_file: least number of images in a file of the output.
        num_cpus, num_gpus: of each worker. With GPUs, workers that open a run directory predict on them; a detector
            stays on its device, and exported files run on the CPU.
        threshold, tile, overlap: as for `Detector.predict`.
        trust: open a `.pt2` file.

    Raises:
        FileNotFoundError, ValueError: the output exists, or there are no images.
    """
    output = _absolute(output)
    file_system, path = FileSystem.from_uri(output)
    if file_system.get_file_info(path).type != FileType.NotFound:
        raise ValueError(f"output: {output} already exists; choose a new folder")
    start()
    dataset = _dataset(dataset_or_paths)
    source: str | Detector = model if isinstance(model, Detector) else _absolute(model)
    workers = _workers(concurrency, num_cpus, num_gpus, isinstance(dataset, MaterializedDataset))
    detected = dataset.map_batches(
        Predictor,
        fn_constructor_args=(source,),
        fn_constructor_kwargs={
            "device": "cuda" if num_gpus else "cpu",
            "trust": trust,
            "threads": max(1, round(num_cpus)) if num_cpus else None,
            "rules": {"threshold": threshold, "tile": tile, "overlap": overlap},
        },
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=workers,
        num_cpus=max(num_cpus - _LIGHT, 0),
        num_gpus=num_gpus,
        udf_modifying_row_count=False,
    )
    detected.write_parquet(
        output,
        mode=SaveMode.ERROR,
        min_rows_per_file=rows_per_file,
        concurrency=max(1, int(workers.max_size) // _WORKERS_PER_WRITER),
        ray_remote_args={"num_cpus": _LIGHT},
    )
    written = parquet_dataset(output, format="parquet")
    return Done(written.count_rows(), written.count_rows(filter=field("error").is_valid()))


def _dataset(source: Dataset | str | Path | Sequence[str | Path]) -> Dataset:
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | Path):
        return read(source)
    paths = list(dict.fromkeys(map(str, source)))
    addresses = [path for path in paths if "://" in path]
    if not addresses:
        return ray.data.from_items([{"path": os.path.abspath(path)} for path in paths])
    if len(addresses) < len(paths):
        local = next(path for path in paths if "://" not in path)
        raise ValueError(f"paths: {local} is a path and {addresses[0]} is an address; pass only one kind in a list")
    return _read_addresses(addresses)


def _absolute(path: str | Path) -> str:
    """The same for all machines. Addresses are not changed."""
    text = str(path)
    return text if "://" in text or text.startswith("coco:") else os.path.abspath(os.path.expanduser(text))


def _workers(
    concurrency: int | tuple[int, int] | None, num_cpus: float, num_gpus: float, is_listed: bool
) -> ActorPoolStrategy:
    if isinstance(concurrency, tuple):
        return ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1])
    if concurrency is None:
        resources = ray.cluster_resources()
        free = 0 if is_listed else 1
        limits = [(resources.get("CPU", 0) - free) / num_cpus] if num_cpus else []
        limits += [resources.get("GPU", 0) / num_gpus] if num_gpus else []
        concurrency = max(1, int(min(limits, default=1)))
    return ActorPoolStrategy(size=concurrency)
