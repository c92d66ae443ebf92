"""Time to read photos with one worker: compared with torch's DataLoader, and while a model trains."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from compare.pairs import CLASSES
from compare.timing import OURS, PRECISIONS, Row, interleaved
from compare.train import training_step
from frcnn.config import make_config
from frcnn.data.loader import batch_to, load_batch
from frcnn.data.prefetch import prefetch
from frcnn.data.records import Record
from frcnn.fast.optimize import optimize
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.resizing import Resizing, input_size
from frcnn.types import Batch

_SIZES = ((1333, 1000), (4032, 3024))
"""(height, width): photos of the Grocery data set, and of a phone."""
_PHOTOS = 5
_MEAN, _RARE = 1.0, 4.0  # gray levels: on average, and at the 99th percentile


def bench_data(device: torch.device, precision: Callable[[FasterRCNN], torch.dtype], rounds: int) -> Iterator[Row]:
    """Read JPEG files of two sizes with the default settings, then take a training step on each.

    Raises:
        AssertionError: the two ways to read do not give the same pixels and boxes.
    """
    config = make_config()
    model = optimize(build_model(config.model, CLASSES))
    dtype = precision(model)
    step = training_step(model.to(device), config.train, dtype)
    with TemporaryDirectory() as folder:
        for size in _SIZES:
            records = write_photos(Path(folder), size)
            yield reading(records, size, model.settings.detector.resizing, rounds)
            row = training(records, size, model.settings.detector.resizing, step, device, rounds)
            yield row._replace(precision=PRECISIONS[dtype])


def write_photos(folder: Path, size: tuple[int, int]) -> list[Record]:
    """Smooth colors with noise, so that the files are as large as photos; each has one box."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    boxes = np.array([[0.1, 0.2, 0.5, 0.6]], np.float32) * np.array([width, height, width, height], np.float32)
    records = []
    for number in range(_PHOTOS):
        coarse = torch.rand(1, 3, height // 32, width // 32, generator=generator)
        smooth = nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0]
        grainy = (255 * smooth + 6 * torch.randn(1, *size, generator=generator)).clamp(0, 255)
        path = folder / f"{height}-{number}.jpg"
        Image.fromarray(grainy.to(torch.uint8).permute(1, 2, 0).numpy()).save(path, quality=90)
        records.append(Record(path, boxes, CLASSES[:1], np.array([False])))
    return records


class _Photos(Dataset[tuple[Tensor, Tensor]]):
    """(3, H, W) uint8 and boxes. Tensors of bytes are what torchvision recommends, instead of Pillow images."""

    def __init__(self, records: Sequence[Record], original: tuple[int, int], size: tuple[int, int]) -> None:
        self.records, self.original = records, original
        self.transforms = v2.Compose([v2.ToImage(), v2.Resize(size, antialias=True)])

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        record = self.records[index]
        boxes = tv_tensors.BoundingBoxes(record.boxes, format="XYXY", canvas_size=self.original)
        with Image.open(record.image) as image:
            found: tuple[Tensor, Tensor] = self.transforms(image.convert("RGB"), boxes)
        return found


def _read(records: Sequence[Record], settings: Resizing) -> Iterator[Batch]:
    return prefetch(partial(load_batch, classes=CLASSES, settings=settings), ([one] for one in records), workers=1)


def reading(records: Sequence[Record], size: tuple[int, int], settings: Resizing, rounds: int) -> Row:
    """Seconds per photo of this size, from the file to a batch."""
    photos = _Photos(records, size, input_size(size, settings))
    check = _same_input(_read(records, settings), photos)
    # Its worker is started once, in the round that does not count.
    loader = DataLoader(photos, num_workers=1, persistent_workers=True, multiprocessing_context="spawn")
    ways = {OURS: lambda: list(_read(records, settings)), "DataLoader, torchvision's v2": lambda: list(loader)}
    seconds = interleaved(ways, rounds=rounds)
    work = f"reading a JPEG of {size[0]} x {size[1]} by 1 worker"
    return Row("data", work, check, {way: [each / len(records) for each in times] for way, times in seconds.items()})


def _same_input(batches: Iterator[Batch], photos: _Photos) -> str:
    """Check that both read the same; returns what was compared."""
    means, rares = [], []
    for index, batch in enumerate(batches):
        image, boxes = photos[index]
        assert_close(batch.targets[0].boxes, boxes.as_subclass(Tensor))
        difference = (batch.images[0].float() - image.as_subclass(Tensor).float()).abs()
        means.append(difference.mean().item())
        rares.append(np.percentile(difference.numpy(), 99).item())
    assert max(means) < _MEAN, f"gray levels differ by {max(means):.2f} on average"
    assert max(rares) <= _RARE, f"one of a hundred gray levels differs by {max(rares):.1f}"
    return f"boxes; gray levels within {max(means):.2f} on average, {max(rares):.0f} at the 99th percentile"


def training(
    records: Sequence[Record],
    size: tuple[int, int],
    settings: Resizing,
    step: Callable[[Batch], object],
    device: torch.device,
    rounds: int,
) -> Row:
    """Seconds per training step, on photos that are read meanwhile, and on photos in memory."""
    at_hand = [batch_to(batch, device) for batch in _read(records, settings)]
    waited: list[float] = []

    def read_meanwhile() -> None:
        batches = _read(records, settings)
        for _ in records:
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # else the step before would be waited for, too
            start = time.perf_counter()
            batch = next(batches)
            waited.append(time.perf_counter() - start)
            step(batch_to(batch, device))

    def from_memory() -> None:
        for batch in at_hand:
            step(batch)

    seconds = interleaved({OURS: read_meanwhile, "photos at hand": from_memory}, rounds=rounds, device=device)
    return Row(
        "data",
        f"training step, photos of {size[0]} x {size[1]} read by 1 worker",
        f"waited for a photo: {1000 * statistics.median(waited[len(records) :]):.1f} ms (median)",
        {way: [each / len(records) for each in times] for way, times in seconds.items()},
    )
