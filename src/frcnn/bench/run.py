"""All measurements, one after the other."""

from collections.abc import Callable, Iterator, Sequence

import torch

from frcnn.bench import BASE_MODELS, WHAT
from frcnn.bench.data import bench_data
from frcnn.bench.eval import bench_eval
from frcnn.bench.machine import machine, peak
from frcnn.bench.ops import bench_ops
from frcnn.bench.predict import bench_predict
from frcnn.bench.report import Found
from frcnn.bench.timing import Row
from frcnn.bench.train import bench_train
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.device import choose_device, choose_precision


def run_bench(
    what: Sequence[str] = WHAT,
    base_models: Sequence[str] = BASE_MODELS,
    device: str = "auto",
    precision: str = "auto",
    *,
    rounds: int = 7,
    compile_mode: str | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Found:
    """Measure, and say each result as soon as it is there.

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

    def chosen(detector: FasterRCNN) -> torch.dtype:
        wanted = detector.config.train.precision if precision == "auto" else precision
        return choose_precision(wanted, place)

    def prepared(detector: FasterRCNN) -> FasterRCNN:
        return detector if compile_mode is None else detector.compile_layers(mode=compile_mode)

    measures: dict[str, Callable[[], Iterator[Row]]] = {
        "ops": lambda: bench_ops(place, rounds),
        "predict": lambda: bench_predict(base_models, place, chosen, rounds, prepared),
        "train": lambda: bench_train(base_models, place, chosen, rounds, prepared),
        "data": lambda: bench_data(place, chosen, rounds),
        "eval": lambda: bench_eval(rounds),
    }
    found = Found([], {})
    log(f"{machine()}, {torch.get_num_threads()} threads")
    for name in what:
        for row in measures[name]():
            if row.gflop is not None and row.precision not in found.peaks:
                found.peaks[row.precision] = peak(place, choose_precision(row.precision, place))
                log(f"peak in {row.precision}: {found.peaks[row.precision]} GFLOP/s")
            found.rows.append(row)
            log(describe(row))
    return found


def describe(row: Row) -> str:
    """One line, for people who wait."""
    ways = ", ".join(f"{way} {1000 * row.median(way):.1f} ms ({row.ratio(way):.1f})" for way in row.seconds)
    return f"{row.work}: {ways}; {row.check}"
