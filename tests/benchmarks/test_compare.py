"""The comparison with torchvision: it measures only what is seen to be the same, and writes figures to compare."""

import json
import multiprocessing
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from compare import ops, timing
from compare.machine import Peak
from compare.pairs import make_pair
from compare.predict import same_detections
from compare.report import Results, table, to_json
from compare.run import compile_layers, run_bench
from compare.timing import OURS, Row, apart, interleaved
from compare.train import photo_batch, same_losses, their_step, training_step
from torch import Tensor, fx, nn
from torch.testing import assert_close

SIZE = (256, 320)
CPU = torch.device("cpu")


def test_ways_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    calls: list[str] = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "a", "b", "b"] * 4  # of two calls the second one counts
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def _notes(file: Path) -> Callable[[], object]:
    """What notes in which process it is called, and fails if the file is a folder."""

    def note() -> None:
        with file.open("a") as text:
            text.write(f"{os.getpid()} ")

    return note


def _cannot(_: Path) -> Callable[[], object]:
    raise ZeroDivisionError


def _ends(_: Path) -> Callable[[], object]:
    os._exit(1)


def test_a_way_apart_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    with apart(_notes, tmp_path / "calls") as call:
        assert list(interleaved({"apart": call}, rounds=2)) == ["apart"]
    processes = (tmp_path / "calls").read_text().split()
    assert len(processes) == 6
    assert len({*processes, str(os.getpid())}) == 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("make", "error"),
    [(_notes, IsADirectoryError), (_cannot, ZeroDivisionError), (_ends, RuntimeError)],
)
def test_what_fails_apart_is_raised_here(
    make: Callable[[Path], Callable[[], object]], error: type[Exception], tmp_path: Path
) -> None:
    with apart(make, tmp_path) as call, pytest.raises(error):
        call()
    assert not multiprocessing.active_children()


def test_ratios_are_those_of_the_rounds() -> None:
    """A slow moment of the machine slows both ways: the ratio of medians would say 1."""
    row = Row("ops", "work", "", {OURS: [1.0, 10.0, 2.0], "other": [2.0, 20.0, 10.0]})
    assert row.median("other") == 10
    assert row.ratio("other") == 2


@pytest.mark.parametrize("name", ["alexnet", "efficientnet_lite0", "resnet18-fpn"])
def test_the_twin_in_torchvision_detects_and_learns_the_same(name: str) -> None:
    few = [f"detector.test_proposals.{rule}_nms_top_n={count}" for rule, count in (("pre", 300), ("post", 50))]
    assert "within" in same_detections(make_pair(name, SIZE, few))
    assert "losses" in same_losses(make_pair(name, SIZE, few))


@pytest.mark.parametrize("name", ["vgg16", "efficientnet_lite0", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_the_twin_in_torchvision_trains_the_same_layers(name: str) -> None:
    pair = make_pair(name, (320, 320))
    batch = photo_batch(pair)
    training_step(pair.ours, pair.settings, torch.float32)
    ours, theirs = (list(model.parameters()) for model in (pair.ours, pair.theirs))
    learning = [sorted(tuple(one.shape) for one in model if one.requires_grad) for model in (ours, theirs)]
    assert learning[0] == learning[1]
    fixed = [{one.numpy().tobytes() for one in model if not one.requires_grad} for model in (ours, theirs)]
    assert fixed[0] >= fixed[1]  # where frozen batch norm has buffers, not parameters
    assert len(fixed[1]) > 1
    before = [values.clone() for values in pair.theirs.buffers()]
    their_step(pair, batch)()
    assert_close(before, list(pair.theirs.buffers()))
    samples = {
        sampler.batch_size_per_image for sampler in (pair.theirs.rpn.fg_bg_sampler, pair.theirs.roi_heads.fg_bg_sampler)
    }
    assert samples == {pair.settings.rpn.sample_size, pair.settings.roi.sample_size}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # read by torch.compile
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
@pytest.mark.parametrize("name", ["alexnet", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_compiled_layers_detect_and_learn_the_same(name: str) -> None:
    """As `torch.compile` records them; what its own compiler makes of that takes a minute, and is PyTorch's."""
    recorded: list[fx.GraphModule] = []

    def run_as_recorded(graph: fx.GraphModule, inputs: object) -> Callable[..., object]:
        recorded.append(graph)
        return graph.forward

    for same in (same_detections, same_losses):
        pair = make_pair(name, (320, 320))
        names = list(pair.ours.state_dict())
        assert "within" in same(pair._replace(ours=compile_layers(pair.ours, backend=run_as_recorded)))
        assert list(pair.ours.state_dict()) == names
    assert any(node.target is torch.conv2d for graph in recorded for node in graph.graph.nodes)


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn"])
def test_torchvisions_own_detectors_are_pairs_too(name: str) -> None:
    assert "within" in same_detections(make_pair(name, (320, 400)))


def test_what_is_not_the_same_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair("alexnet", SIZE)
    nn.init.constant_(pair.ours.rpn.deltas.bias, 0.1)
    with pytest.raises(AssertionError, match="detections"):
        same_detections(pair)
    with pytest.raises(AssertionError, match="rpn_box"):
        same_losses(pair)

    def first(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int) -> Tensor:
        return torch.arange(max_keep)[None]

    monkeypatch.setattr(ops, "blocked_nms", first)
    with pytest.raises(AssertionError):
        next(ops.bench_ops(CPU, rounds=1))


def test_table_and_json_say_medians_ratios_and_the_share_of_the_peak() -> None:
    row = Row("predict", "alexnet", "all", {OURS: [0.2, 0.1, 0.4], "torchvision": [0.4, 0.3, 0.8]}, gflop=10)
    results = Results([row], {"fp32": Peak(conv=100, matmul=120)})
    text = table(results)
    assert "| alexnet | frcnn, fp32 | 200 | 100 to 400 |  | 50% |" in text
    assert "torchvision | 400 | 300 to 800 | 2.0 times |" in text
    read = json.loads(to_json(results))
    assert read["rows"][0]["ratios"] == {"torchvision": 2.0}
    assert read["peak_gflop_per_second"] == {"fp32": {"conv": 100, "matmul": 120}}


def test_operators_are_measured_one_by_one() -> None:
    read = json.loads(to_json(run_bench(["ops"], rounds=1)))
    assert [row["what"] for row in read["rows"]] == ["ops"] * 9
    with pytest.raises(ValueError, match="alexnett"):
        run_bench(["predict"], ["alexnett"])
