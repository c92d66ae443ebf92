"""All measurements, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from compare import BASE_MODELS, WHAT
from compare.data import bench_data
from compare.eval import bench_eval
from compare.machine import machine, peak
from compare.ops import bench_ops
from compare.predict import bench_predict
from compare.report import Results
from compare.timing import Row
from compare.train import bench_train
from frcnn.nn.device import choose_device, choose_precision
from frcnn.nn.faster_rcnn import FasterRCNN


def run_bench(
    what: Sequence[str] = WHAT,
    base_models: Sequence[str] = BASE_MODELS,
    device: str = "auto",
    precision: str = "auto",
    *,
    rounds: int = 7,
    compile_mode: str | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Results:
    """Measure, and log each result at once.

    Args:
        what: of WHAT.
        base_models: for predict and train; names of presets.
        precision: of our layers: "auto" is what a RUN takes on this machine; torchvision's compute in fp32, as its
            users run them.
        rounds: how often each way is timed.
        compile_mode: of `torch.compile`, for our layers; None: they are not compiled.

    Raises:
        AssertionError: ours and torchvision's do not compute the same, so nothing is worth timing.
        ValueError: no such base model or device.
    """
    place = choose_device(device)

    def chosen(model: FasterRCNN) -> torch.dtype:
        wanted = model.settings.precision if precision == "auto" else precision
        return choose_precision(wanted, place)

    def prepared(model: FasterRCNN) -> FasterRCNN:
        return model if compile_mode is None else compile_layers(model, mode=compile_mode)

    measures: dict[str, Callable[[], Iterator[Row]]] = {
        "ops": lambda: bench_ops(place, rounds),
        "predict": lambda: bench_predict(base_models, place, chosen, rounds, prepared),
        "train": lambda: bench_train(base_models, place, chosen, rounds, prepared),
        "data": lambda: bench_data(place, chosen, rounds),
        "eval": lambda: bench_eval(rounds),
    }
    results = Results([], {})
    log(f"{machine()}, {torch.get_num_threads()} threads")
    for name in what:
        for row in measures[name]():
            if row.gflop is not None and row.precision not in results.peaks:
                results.peaks[row.precision] = peak(place, choose_precision(row.precision, place))
                log(f"peak in {row.precision}: {results.peaks[row.precision]} GFLOP/s")
            results.rows.append(row)
            log(describe(row))
    return results


def describe(row: Row) -> str:
    """One line of text."""
    ways = ", ".join(f"{way} {1000 * row.median(way):.1f} ms ({row.ratio(way):.1f})" for way in row.seconds)
    return f"{row.work}: {ways}; {row.check}"


def compile_layers(model: FasterRCNN, **options: Any) -> FasterRCNN:
    """Compile the backbone, the convolutions of RPN and RoI head, and the base model's head by `torch.compile`, when
    they first see maps of a size. The output layers, box arithmetic, RoI pooling and NMS are not compiled. Weights and
    their names do not change; copies are not compiled, so apply `optimize` before.

    Args:
        model: changed in place, and returned.
        options: of `torch.compile`; mode="reduce-overhead" records CUDA graphs, which suits frames of one size
            (`detector.image.resize=fit`).
    """
    for layers in (model.backbone, *model.rpn.convs, *model.roi_head.convs, model.roi_head.head):
        layers.compile(**options)
    return model
