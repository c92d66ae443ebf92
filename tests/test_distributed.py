"""Several processes and several machines train what one process trains."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from tiny import SETTINGS, tiny_config, write_annotated, write_tiny

from frcnn import distributed
from frcnn.config import dump_yaml, read_run_config
from frcnn.data.loader import plan_micro_batches
from frcnn.detector import Detector
from frcnn.files import write_text
from frcnn.nn.model_file import load_model
from frcnn.training.loggers import read_metrics

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
Process = subprocess.Popen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets, and settings. ImageNet weights and a low rate, so that what is rounded otherwise in a
    batch of two than in two of one stays that small: no box is chosen for it that is not chosen else."""
    folder = tmp_path_factory.mktemp("distributed")
    write_tiny(folder / "tiny")
    write_tiny(folder / "half")
    for image in (folder / "half" / "positive").glob("[123].*"):
        image.unlink()  # one image with objects remains, and one without: a process has none in every step
    for number in range(3):
        write_annotated(folder / "half" / "testImages" / f"1{number}.png", [("red", (10, 10, 50, 60))], seed=number)
    write_text(
        folder / "settings.yaml",
        dump_yaml(tiny_config("train.lr=0.0001")),
    )
    return folder


def arguments(folder: Path, data: str, out: str, *settings: str) -> list[str]:
    options = [part for setting in settings for part in ("--set", setting)]
    return [
        *("-m", "frcnn", "train", str(folder / data), "--config", str(folder / "settings.yaml"), "--offline"),
        *("--out", str(folder / out), *options),
    ]


def start(*command: str) -> Process:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return Process(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: Process) -> str:
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "deprecated" not in text
    return text


def run(*command: str) -> str:
    return finish(start(*command))


def assert_same_weights(first: Path, second: Path, *, tolerance: float) -> None:
    torch.testing.assert_close(load_model(first).state_dict(), load_model(second).state_dict(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("data", "epochs"), [("tiny", 4), ("half", 10)], ids=["uneven", "no objects in one process"])
def test_two_processes_of_one_image_are_one_process_of_two(folder: Path, data: str, epochs: int) -> None:
    settings = (f"train.epochs={epochs}",)
    text = run(*TORCHRUN, "--nproc-per-node", "2", *arguments(folder, data, f"{data}-2", *settings))
    run(sys.executable, *arguments(folder, data, f"{data}-1", *settings, "train.batch_size=2"))
    two, one = folder / f"{data}-2", folder / f"{data}-1"
    assert len(read_metrics(one)) >= 10
    assert_same_weights(two, one, tolerance=1e-6)

    # Only the first process writes and talks.
    assert "2 images a step (2 processes), so the learning rate is 2 times that of one image" in text
    assert text.count("model in") == 1
    assert {file.name for file in two.iterdir()} == {file.name for file in one.iterdir()}
    steps = [(line["step"], line["images"]) for line in read_metrics(two)]
    assert steps == [(line["step"], line["images"]) for line in read_metrics(one)]

    # The evaluation is shared out, and merged to what one process finds.
    merged, alone = json.loads((two / "metrics.json").read_text()), Detector(load_model(two), path=two).evaluate()
    assert merged["images"] == alone.images == (2 if data == "tiny" else 5)
    assert merged["map50"] == pytest.approx(alone.map50, abs=1e-6)
    assert merged["map"] == pytest.approx(alone.map, abs=1e-6)
    assert merged["recall"] == {str(count): pytest.approx(share) for count, share in alone.recall.items()}


def test_alternating_and_validation_work_in_two_processes(folder: Path) -> None:
    settings = (
        "train.scheme=alternating",
        "train.rpn_epochs=1",
        "train.roi_epochs=2",
        "train.rpn_lr=0.0001",
        "train.roi_lr=0.0001",
        "train.validate_every=1",
        "data.val_fraction=0.3",
    )
    run(*TORCHRUN, "--nproc-per-node", "2", *arguments(folder, "tiny", "alternating-2", *settings))
    run(sys.executable, *arguments(folder, "tiny", "alternating-1", *settings, "train.accumulate=2"))
    assert_same_weights(folder / "alternating-2", folder / "alternating-1", tolerance=0)
    two, one = (read_metrics(folder / f"alternating-{count}") for count in (2, 1))
    assert [line["event"] for line in two] == [line["event"] for line in one]
    for first, second in zip(two, one, strict=True):
        if first["event"] != "step":
            assert first["recall"] == second["recall"]
        if first["event"] == "validation":
            assert first["map50"] == pytest.approx(second["map50"], abs=1e-6)
            assert first["losses"] == pytest.approx(second["losses"], abs=1e-5)


def test_a_plan_and_a_budget_work_in_two_processes(folder: Path) -> None:
    """All processes train with the settings that the main process chose."""
    settings = [setting for setting in SETTINGS if not setting.startswith(("train.epochs", "detector.anchors"))]
    settings += ["train.scheme=alternating", "train.rpn_epochs=1", "train.roi_epochs=1"]
    options = [part for setting in settings for part in ("--set", setting)]
    command = ("-m", "frcnn", "train", str(folder / "tiny"), "--out", str(folder / "planned"), "--budget", "1h")
    text = run(*TORCHRUN, "--nproc-per-node", "2", *command, "--offline", "--weights", "none", *options)
    assert "training may take 60 min" in text
    train = read_run_config(folder / "planned").train
    assert (train.rpn_epochs, train.roi_epochs) == (3, 3)  # three times as many, at most
    assert len(list(load_model(folder / "planned").roi_head.stages())) == 2


def test_after_a_process_dies_all_restart_and_resume(folder: Path) -> None:
    settings = ("train.epochs=8", "train.checkpoint_seconds=0")
    run(*TORCHRUN, "--nproc-per-node", "2", *arguments(folder, "tiny", "undisturbed", *settings))
    command = arguments(folder, "tiny", "died", *settings)
    process = start(*TORCHRUN, "--nproc-per-node", "2", "--max-restarts", "1", *command)
    while not (folder / "died" / "checkpoint.pt").is_file():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    workers = [child for child in psutil.Process(process.pid).children() if "frcnn" in child.cmdline()]
    workers[-1].kill()
    assert "resumes after step" in finish(process)
    assert_same_weights(folder / "died", folder / "undisturbed", tolerance=0)
    assert [line["step"] for line in read_metrics(folder / "died")] == list(range(1, 25))


def test_a_run_does_not_resume_with_another_number_of_processes(folder: Path) -> None:
    settings = ("train.epochs=50", "train.checkpoint_seconds=0")
    process = start(sys.executable, *arguments(folder, "tiny", "cut", *settings))
    while not (folder / "cut" / "checkpoint.pt").is_file():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.kill()
    process.communicate()
    two = start(*TORCHRUN, "--nproc-per-node", "2", *arguments(folder, "tiny", "cut", *settings))
    text, _ = two.communicate(timeout=120)
    assert two.returncode != 0
    assert "images per step was 1 and is now 2" in text


# ------------------------------------------------------------------------------------------------------- two machines


@contextmanager
def namespaces() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them, 10.99.0.1 and 10.99.0.2; none if the system lets us not."""
    names = [f"frcnn-{os.getpid()}-{number}" for number in range(2)]

    def ip(*words: str) -> bool:
        return shutil.which("ip") is not None and subprocess.run(("ip", *words), capture_output=True).returncode == 0

    made = ip("netns", "add", names[0]) and ip("netns", "add", names[1])
    made = made and ip("link", "add", "frcnn0", "netns", names[0], "type", "veth", "peer", "frcnn1", "netns", names[1])
    for number in range(2):
        inside = ("-n", names[number])
        made = made and ip(*inside, "addr", "add", f"10.99.0.{number + 1}/24", "dev", f"frcnn{number}")
        made = made and ip(*inside, "link", "set", f"frcnn{number}", "up") and ip(*inside, "link", "set", "lo", "up")
    try:
        yield names if made else []
    finally:
        for name in names:
            ip("netns", "del", name)


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def test_two_machines_train_what_two_processes_train(folder: Path) -> None:
    """As in docs/distributed.md; the machines are network namespaces, or two agents on this one."""
    settings = ("train.epochs=2",)
    port = str(free_port())
    with namespaces() as apart:
        machines = []
        for number in range(2):
            inside = ["ip", "netns", "exec", apart[number]] if apart else []
            inside += ["env", f"GLOO_SOCKET_IFNAME=frcnn{number}"] if apart else []
            address = "10.99.0.1" if apart else "127.0.0.1"
            where = ["--nnodes", "2", "--node-rank", str(number), "--master-addr", address, "--master-port", port]
            command = [*TORCHRUN, "--nproc-per-node", "1", *where, *arguments(folder, "tiny", "machines", *settings)]
            machines.append(start(*inside, *command))
        for machine in machines:
            finish(machine)
    run(*TORCHRUN, "--nproc-per-node", "2", *arguments(folder, "tiny", "processes", *settings))
    assert_same_weights(folder / "machines", folder / "processes", tolerance=0)


MEET = """
import os, sys, time
from pathlib import Path
from frcnn import distributed

mark = Path(sys.argv[1])
with distributed.process_group():
    assert distributed.gather(distributed.rank()) == [0, 1]
    if not mark.exists():  # the first time, the second machine's process dies while the first one's is busy
        distributed.gather(None)
        if distributed.rank() == 1:
            mark.touch()
            os._exit(1)
        time.sleep(4)
    distributed.gather(None)
    print("met again")
"""


def test_machines_meet_again_whose_counts_of_restarts_differ(tmp_path: Path) -> None:
    """The machine of the process that died has one more."""
    (tmp_path / "meet.py").write_text(MEET)
    where = [
        "--nnodes",
        "2",
        "--nproc-per-node",
        "1",
        "--max-restarts",
        "1",
        "--rdzv-backend",
        "c10d",
        "--rdzv-id",
        "1",
    ]
    where += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    command = [*TORCHRUN, *where, str(tmp_path / "meet.py"), str(tmp_path / "mark")]
    machines = [start(*command), start(*command)]
    assert [finish(machine).count("met again") for machine in machines] == [1, 1]


SAME = """
import sys, torch
from frcnn import distributed, train
from frcnn.config import parse_overrides

with distributed.process_group():
    settings = parse_overrides(sys.argv[4:])
    result = train(sys.argv[1], config=sys.argv[2], out=sys.argv[3], offline=True, settings=settings)
    states = distributed.gather(result.detector.model.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=0, msg=name)
    print("same")
"""


def test_batch_norm_that_learns_is_the_same_in_all_processes(folder: Path) -> None:
    (folder / "same.py").write_text(SAME)
    paths = [str(folder / name) for name in ("same.py", "tiny", "settings.yaml", "norm")]
    settings = ("base_model.freeze_batch_norm=false", "train.ema_decay=0.9")
    assert "same" in run(*TORCHRUN, "--nproc-per-node", "2", *paths, *settings)


STOP = """
import sys
from frcnn import Callback, distributed, train
from frcnn.config import parse_overrides

class Stop(Callback):
    def on_step(self, report, state):
        assert distributed.is_main_process()
        state.should_stop = report.step == 2

with distributed.process_group():
    settings = parse_overrides(sys.argv[4:])
    train(sys.argv[1], config=sys.argv[2], out=sys.argv[3], offline=True, settings=settings, callbacks=[Stop()])
    print("stopped")
"""


def test_a_callback_of_the_main_process_stops_all_processes(folder: Path) -> None:
    (folder / "stop.py").write_text(STOP)
    paths = [str(folder / name) for name in ("stop.py", "tiny", "settings.yaml", "stopped")]
    text = run(*TORCHRUN, "--nproc-per-node", "2", *paths, "train.epochs=9")
    assert text.count("stopped\n") == 2
    assert [line["step"] for line in read_metrics(folder / "stopped")] == [1, 2]


# ----------------------------------------------------------------------------------------------- who takes which image


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize(("images", "batch_size", "accumulate"), [(1, 1, 1), (7, 2, 1), (12, 1, 3), (13, 2, 2)])
def test_every_image_is_taken_once_and_counts_the_same(
    count: int, images: int, batch_size: int, accumulate: int
) -> None:
    size = batch_size * accumulate * count
    plans = [
        list(plan_micro_batches(range(images), images_per_step=size, batch_size=batch_size, rank=rank, count=count))
        for rank in range(count)
    ]
    assert {len(plan) for plan in plans} == {-(-images // size)}  # all take part in every step
    for step, chunk in enumerate(range(0, images, size)):
        shares = [share for plan in plans for share in plan[step]]
        taken = sorted(index for share in shares if share.weight > 0 for index in share.indices)
        expected = list(range(images))[chunk : chunk + size]
        assert taken == expected
        assert sum(share.weight for share in shares) == pytest.approx(1)
        for share in shares:
            assert len(share.indices) <= batch_size
            assert share.weight == 0 or share.weight == pytest.approx(len(share.indices) / len(expected))


def test_alone_there_is_nothing_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.process_group():
        assert (distributed.world_size(), distributed.rank(), distributed.is_main_process()) == (1, 0, True)
        assert distributed.gather("a") == ["a"]
        assert distributed.broadcast_object("b") == "b"
        torch.testing.assert_close(distributed.all_reduce(torch.tensor([2.0])), torch.tensor([2.0]))
