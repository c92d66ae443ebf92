"""Prediction, from pixels to detections: frcnn compared with torchvision."""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from compare.pairs import Pair, input_size_of, make_pair, without_tf32
from compare.timing import OURS, PRECISIONS, Row, apart, interleaved
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.types import DetectionTensors

_PIXELS, _SCORE = 0.05, 1e-3
_SURE = 0.95  # of the detections: scores that are equal but for rounding may change places in NMS


@torch.no_grad()
def bench_predict(
    base_models: Sequence[str],
    device: torch.device,
    precision: Callable[[FasterRCNN], torch.dtype],
    rounds: int,
    prepare: Callable[[FasterRCNN], FasterRCNN] = lambda model: model,
) -> Iterator[Row]:
    """One photo at a time: ours, and torchvision's as a user runs it, in float32.

    Args:
        prepare: changes how ours runs, e.g. compiles it, not what it finds.

    Raises:
        AssertionError: they do not find the same in float32.
    """
    for name in base_models:
        height, width = input_size_of(name)
        pair = make_pair(name, (height, width)).to(device)
        prepare(pair.ours)
        check = same_detections(pair)
        dtype = precision(pair.ours)
        ours = prepare(copy.deepcopy(pair.ours).set_precision(dtype))

        def our_way(pair: Pair = pair, ours: FasterRCNN = ours) -> object:
            return ours(*pair.our_inputs())

        with apart(_their_detection, name, (height, width), device) as their_way:
            seconds = interleaved({OURS: our_way, "torchvision": their_way}, rounds=rounds, device=device)
        work = f"{name}, {width} x {height}, prediction"
        yield Row("predict", work, check, seconds, gflop_of(our_way), PRECISIONS[dtype])


def _their_detection(name: str, size: tuple[int, int], device: torch.device) -> Callable[[], object]:
    pair = make_pair(name, size).to(device)
    model = pair.theirs.eval()

    @torch.no_grad()
    def detect() -> object:
        return model([pair.their_input()])

    return detect


@without_tf32
def same_detections(pair: Pair) -> str:
    """Check that both detect the same; returns what was compared."""
    ours: DetectionTensors = pair.ours(*pair.our_inputs())
    expected = pair.theirs.eval()([pair.their_input()])[0]
    count = int(ours.valid[0].sum())
    assert count == len(expected["boxes"]) > 0, f"{count} detections, torchvision has {len(expected['boxes'])}"
    near = (ours.boxes[0, :count, None] - expected["boxes"]).abs().amax(dim=2) < _PIXELS
    alike = (ours.scores[0, :count, None] - expected["scores"]).abs() < _SCORE
    same = (near & alike & (ours.labels[0, :count, None] == expected["labels"])).any(dim=1).float().mean()
    assert same >= _SURE, f"only {same:.0%} of the {count} detections are torchvision's"
    return f"{same:.0%} of {count} detections within {_PIXELS} px and {_SCORE} of the score"


def gflop_of(call: Callable[[], object]) -> float:
    """GFLOP of convolutions and matrix products in a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9
