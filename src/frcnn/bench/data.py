"""Reading photos by one worker: beside torch's DataLoader with torchvision's transforms, and beside a training."""

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

from frcnn.bench.pairs import CLASSES
from frcnn.bench.timing import OURS, Row, interleaved
from frcnn.bench.train import training_step
from frcnn.config import ImageSettings, merge
from frcnn.data.ahead import read_ahead
from frcnn.data.loader import batch_to, load_batch
from frcnn.data.transforms import input_size
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.device import precision_name
from frcnn.types import Batch, Record

_SIZES = ((1333, 1000), (4032, 3024))
"""(height, width): the photos of Grocery, and those of a phone."""
_PHOTOS = 5
_MEAN, _RARE = 1.0, 4.0  # grey levels: on average, and at the 99th percentile


def bench_data(device: torch.device, precision: Callable[[FasterRCNN], torch.dtype], rounds: int) -> Iterator[Row]:
    """JPEGs of two sizes, read as the default recipe takes them, then a training step on each.

    Raises:
        AssertionError: the two ways to read do not give the same pixels and boxes.
    """
    detector = FasterRCNN(merge(), CLASSES)
    dtype = precision(detector)
    step = training_step(detector.to(device), dtype)
    with TemporaryDirectory() as folder:
        for size in _SIZES:
            records = write_photos(Path(folder), size)
            yield reading(records, size, detector.image_settings, rounds)
            row = training(records, size, detector.image_settings, step, device, rounds)
            yield row._replace(precision=precision_name(dtype))


def write_photos(folder: Path, size: tuple[int, int]) -> list[Record]:
    """Coloured blots with grain, so that there are as many bytes to decode as in photos; each with a box."""
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
    """(3, H, W) uint8 and boxes, by torchvision's own advice: tensors of bytes, not Pillow's images."""

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


def _read(records: Sequence[Record], settings: ImageSettings) -> Iterator[Batch]:
    return read_ahead(partial(load_batch, classes=CLASSES, settings=settings), ([one] for one in records), workers=1)


def reading(records: Sequence[Record], size: tuple[int, int], settings: ImageSettings, rounds: int) -> Row:
    """Seconds a photo of this size, until it is a batch."""
    photos = _Photos(records, size, input_size(size, settings))
    check = _same_input(_read(records, settings), photos)
    # Its worker is started once, in the round that does not count.
    loader = DataLoader(photos, num_workers=1, persistent_workers=True, multiprocessing_context="spawn")
    ways = {OURS: lambda: list(_read(records, settings)), "DataLoader, torchvision's v2": lambda: list(loader)}
    seconds = interleaved(ways, rounds=rounds)
    work = f"reading a JPEG of {size[0]} x {size[1]} by 1 worker"
    return Row("data", work, check, {way: [each / len(records) for each in times] for way, times in seconds.items()})


def _same_input(batches: Iterator[Batch], photos: _Photos) -> str:
    """What was compared, in words."""
    means, rares = [], []
    for index, batch in enumerate(batches):
        image, boxes = photos[index]
        assert_close(batch.targets[0].boxes, boxes.as_subclass(Tensor))
        difference = (batch.images[0].float() - image.as_subclass(Tensor).float()).abs()
        means.append(difference.mean().item())
        rares.append(np.percentile(difference.numpy(), 99).item())
    assert max(means) < _MEAN, f"grey levels differ by {max(means):.2f} on average"
    assert max(rares) <= _RARE, f"one of a hundred grey levels differs by {max(rares):.1f}"
    return f"boxes; grey levels within {max(means):.2f} on average, {max(rares):.0f} at the 99th percentile"


def training(
    records: Sequence[Record],
    size: tuple[int, int],
    settings: ImageSettings,
    step: Callable[[Batch], object],
    device: torch.device,
    rounds: int,
) -> Row:
    """Seconds a step, one on each photo: read meanwhile, or at hand."""
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
