"""Detection on a Ray cluster, and Parquet. `make test-ray` runs them in an environment of its own, because Ray and
pyarrow are large."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny import draw_image, trained_run, write_tiny

from frcnn.cli import main
from frcnn.detector import load

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours

IMAGES = 2000
"""Of the test that kills a node: enough for half a minute."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(trained_run(), tmp_path_factory.mktemp("ray") / "run"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 photos in two folders, and two files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for number in range(60):
        x = 4 + number % 30
        image = draw_image([("red", (x, 12, x + 50, 70))], seed=number)
        image.save((folder / "more" if number % 2 else folder) / f"{number}.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "more" / "text.jpg").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head, which other nodes can join."""
    import frcnn.ray  # isort: skip  # switches usage statistics off before Ray starts
    import ray
    from ray.cluster_utils import Cluster

    assert frcnn.ray
    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 200_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def rows_in(folder: Path) -> list[dict[str, Any]]:
    from frcnn.inference.parts.rows import read_rows

    return [row for file in sorted(folder.glob("*.parquet")) for row in read_rows(file)]


def expected_rows(run: Path, photos: Path, threshold: float) -> dict[str, Any]:
    detector = load(run)
    good = [path for path in photos.rglob("*.png") if path.stat().st_size]
    return {
        path.relative_to(photos).as_posix(): detector.predict(path, threshold=threshold).to_dict()["detections"]
        for path in good
    }


def assert_as_expected(rows: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    """Each image once, with the detections of `Detector.predict`; each bad image once, with an error."""
    counts = Counter(row["image"] for row in rows)
    assert max(counts.values()) == 1
    assert {row["image"] for row in rows if "error" in row} == {"empty.png", "more/text.jpg"}
    found = {row["image"]: row["detections"] for row in rows if "error" not in row}
    assert found.keys() == expected.keys()
    assert sum(map(len, expected.values())) > 20
    for name, detections in found.items():
        assert [each["class"] for each in detections] == [each["class"] for each in expected[name]]
        for one, other in zip(detections, expected[name], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)
            assert one["box"] == pytest.approx(other["box"], abs=0.05)


# ------------------------------------------------------------------------------------------------------------- Parquet


def test_parts_in_parquet_hold_what_parts_in_json_hold(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from frcnn.inference.parts.rows import read_rows

    command = ["predict", str(run), str(photos), "--threshold", "0.05", "--part-size", "25"]
    assert main([*command, "--parts", str(tmp_path / "json")]) == 0
    assert main([*command, "--parts", str(tmp_path / "parquet"), "--parquet"]) == 0
    assert len(list((tmp_path / "parquet").glob("*.parquet"))) == 3
    assert main([*command, "--parts", str(tmp_path / "parquet"), "--parquet", "--resume"]) == 0
    assert "62 images done, 0 in this run" in capsys.readouterr().out
    for source in ("json", "parquet"):
        for suffix in (".jsonl", ".parquet"):
            out = tmp_path / f"{source}{suffix}"
            assert main(["merge", str(tmp_path / source), "--out", str(out)]) == 0
    merged = {file.name: list(read_rows(file)) for file in tmp_path.iterdir() if file.is_file()}
    assert len(merged) == 4
    assert all(rows == merged["json.jsonl"] for rows in merged.values())
    assert_as_expected(merged["json.jsonl"], expected_rows(run, photos, 0.05))


def test_other_programs_read_a_folder_of_parts(run: Path, photos: Path, tmp_path: Path) -> None:
    """The state of the job is in the folder too, in JSON."""
    import pandas as pd
    from pyarrow.dataset import dataset

    parts = tmp_path / "parts"
    assert main(["predict", str(run), str(photos), "--parts", str(parts), "--parquet", "--part-size", "25"]) == 0
    assert any(file.suffix == ".json" for file in parts.iterdir())
    assert dataset(parts, format="parquet").count_rows() == 62
    assert len(pd.read_parquet(parts)) == 62


def test_a_damaged_parquet_part_is_named(run: Path, photos: Path, tmp_path: Path) -> None:
    from frcnn.inference.parts.merge import merge_parts

    parts = tmp_path / "parts"
    assert main(["predict", str(run), str(photos), "--parts", str(parts), "--parquet"]) == 0
    (part,) = parts.glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"part-0-000000\.parquet: damaged .* delete this file"):
        merge_parts(parts, None)


# ----------------------------------------------------------------------------------------------------------------- Ray


def test_usage_statistics_are_off(cluster: Any) -> None:
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert not usage_stats_enabled()


@pytest.mark.parametrize(
    ("address", "variable", "expected"),
    [
        (None, None, "local"),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),  # `ray job submit` sets the variable
        ("auto", "10.0.0.1:6379", "auto"),
        ("local", "10.0.0.1:6379", "local"),
    ],
)
def test_start_connects_to_the_cluster_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, address: str | None, variable: str | None, expected: str
) -> None:
    import frcnn.ray as frcnn_ray  # isort: skip  # switches usage statistics off before Ray starts
    import ray

    connected: list[str] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda address, **_: connected.append(address))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    frcnn_ray.start(address)
    assert connected == [expected]


@pytest.mark.parametrize("source", ["folder", "paths", "parquet", "address", "addresses", "detector"])
def test_ray_finds_what_one_process_finds(cluster: Any, run: Path, photos: Path, tmp_path: Path, source: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    import frcnn.ray as frcnn_ray

    files = sorted(path for path in photos.rglob("*") if path.is_file())
    images: Any = photos
    if source == "paths":
        images = files
    if source == "parquet":
        names = [path.relative_to(photos).as_posix() for path in files]
        images = tmp_path / "photos.parquet"
        content = [{"bytes": path.read_bytes(), "path": name} for path, name in zip(files, names, strict=True)]
        parquet.write_table(pa.table({"image": content, "label": [0] * len(files)}), images)
    if source == "address":
        images = f"file://{shutil.copytree(photos, tmp_path / 'bucket')}"
        for name in ("list.txt", "state.json", "more/old.parquet"):
            (tmp_path / "bucket" / name).write_bytes(b"")
    if source == "addresses":
        images = [f"file://{file}" for file in files]
    model = load(run) if source == "detector" else run
    done = frcnn_ray.predict(images, model, output=tmp_path / "out", threshold=0.05, batch_size=16, rows_per_file=20)
    assert done == (62, 2)
    rows = rows_in(tmp_path / "out")
    folder = {"paths": f"{photos}/", "addresses": f"{photos}/", "address": f"{tmp_path}/bucket/"}.get(source, "")
    assert all(row["image"].startswith(folder) for row in rows)
    for row in rows:
        row["image"] = row["image"].removeprefix(folder)
    assert_as_expected(rows, expected_rows(run, photos, 0.05))


def test_ray_runs_exported_files(cluster: Any, run: Path, photos: Path, tmp_path: Path) -> None:
    import frcnn.ray as frcnn_ray

    load(run).export("onnx", tmp_path / "model.onnx")
    done = frcnn_ray.predict(photos, tmp_path / "model.onnx", output=tmp_path / "out", threshold=0.05)
    assert done == (62, 2)
    assert_as_expected(rows_in(tmp_path / "out"), expected_rows(run, photos, 0.05))


def test_an_image_that_is_listed_twice_is_in_the_output_once(
    cluster: Any, run: Path, photos: Path, tmp_path: Path
) -> None:
    import frcnn.ray as frcnn_ray

    (tmp_path / "list.txt").write_text(f"{photos / '0.png'}\n{photos / '2.png'}\n{photos / '0.png'}\n")
    assert frcnn_ray.predict(tmp_path / "list.txt", run, output=tmp_path / "one") == (2, 0)
    twice = [photos / "0.png", str(photos / "0.png")]
    assert frcnn_ray.predict(twice, run, output=tmp_path / "two") == (1, 0)


def test_a_disk_that_fails_is_no_fault_of_an_image(run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    from frcnn.data import images
    from frcnn.ray import Predictor

    def fail(path: Path, **options: Any) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(images, "open_image", fail)
    with pytest.raises(OSError, match="mend the disk or the network, and start the job again"):
        Predictor(str(run))(pa.table({"path": [str(photos / "0.png")]}))


def test_a_worker_has_as_many_threads_as_cpus(
    cluster: Any, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import frcnn.ray as frcnn_ray

    class Watched(frcnn_ray.Predictor):
        def __call__(self, batch: Any) -> Any:
            (tmp_path / os.environ["OMP_NUM_THREADS"]).touch()
            (tmp_path / f"torch {torch.get_num_threads()}").touch()
            return super().__call__(batch)

    monkeypatch.setattr(frcnn_ray, "Predictor", Watched)
    frcnn_ray.predict(photos, run, output=tmp_path / "out", num_cpus=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["2", "out", "torch 2"]


@pytest.mark.parametrize("address", ["", "file://"])
def test_an_output_that_exists_is_refused(run: Path, photos: Path, tmp_path: Path, address: str) -> None:
    import frcnn.ray as frcnn_ray

    output = f"{address}{tmp_path}"
    with pytest.raises(ValueError, match=f"^output: {output} already exists; choose a new folder$"):
        frcnn_ray.predict(photos, run, output=output)


def test_addresses_without_images_are_refused(cluster: Any, tmp_path: Path) -> None:
    import frcnn.ray as frcnn_ray

    (tmp_path / "old.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"has no images that can be read .*pass ray\.data\.read_parquet\('file://"):
        frcnn_ray.read(f"file://{tmp_path}")
    with pytest.raises(ValueError, match=r"a\.jpg is a path and s3://bucket/b\.jpg is an address"):
        frcnn_ray.predict(["a.jpg", "s3://bucket/b.jpg"], "run", output=tmp_path / "out")


def test_a_dataset_of_pixels_is_refused(cluster: Any, run: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    from frcnn.ray import Predictor

    predictor = Predictor(str(run))
    with pytest.raises(ValueError, match="holds list; it must hold the bytes of image files"):
        predictor(pa.table({"path": ["a"], "image": [[1, 2, 3]]}))
    with pytest.raises(ValueError, match="its columns are label; it needs the bytes"):
        predictor(pa.table({"label": [1]}))
    with pytest.raises(ValueError, match="an image has no name"):
        predictor(pa.table({"bytes": [b""]}))


@pytest.mark.parametrize("is_local", [False, True], ids=["address", "local"])
def test_the_command(cluster: Any, run: Path, photos: Path, tmp_path: Path, is_local: bool) -> None:
    """In a process of its own, which is not connected to the cluster of the tests."""
    from ray._private.state import jobs

    out, before = tmp_path / "out", len(jobs())
    command = [sys.executable, "-m", "frcnn", "predict", run, photos, "--parts", out, "--threshold", "0.05", "--ray"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        list(map(str, command)) + ([] if is_local else [cluster.address]),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{out}: 62 images done, 2 of these failed" in done.stdout
    assert_as_expected(rows_in(out), expected_rows(run, photos, 0.05))
    assert len(jobs()) - before == (0 if is_local else 1)


def test_the_command_refuses_an_overlap_without_tiles(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(run), str(photos), "--parts", str(tmp_path / "out"), "--ray", "--overlap", "0.1"]
    assert main(command) == 2
    assert "set the tile too" in capsys.readouterr().err


def test_the_status_is_1_if_all_images_fail(
    cluster: Any, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    command = ["predict", str(run), str(tmp_path / "list.txt"), "--parts", str(tmp_path / "out"), "--ray"]
    assert main(command) == 1
    assert "all images of this run failed" in capsys.readouterr().err


def test_a_node_that_is_killed_loses_and_duplicates_no_image(cluster: Any, run: Path, tmp_path: Path) -> None:
    """All processes of the node get SIGKILL while its worker detects, and after some images are written."""
    import frcnn.ray as frcnn_ray

    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(IMAGES):
        draw_image([("red", (4 + number % 30, 12, 60, 70))], seed=number).save(images / f"{number}.png")
    node = cluster.add_node(num_cpus=1, object_store_memory=200_000_000)
    cluster.wait_for_nodes()
    is_over = threading.Event()
    killed: list[int] = []  # after so many files

    def kill() -> None:
        while not is_over.wait(0.02):
            files = len(list(out.glob("*.parquet")))
            if files >= 2 and _has_busy_worker(node):
                cluster.remove_node(node, allow_graceful=False)
                killed.append(files)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        done = frcnn_ray.predict(images, run, output=out, concurrency=3, batch_size=10, rows_per_file=25)
    finally:
        is_over.set()
        killer.join()
    names = [row["image"] for row in rows_in(out)]
    (files,) = killed
    assert files < IMAGES / 25 / 2
    assert done == (IMAGES, 0)
    assert sorted(names) == sorted(path.name for path in images.iterdir())


def _has_busy_worker(node: Any) -> bool:
    """Whether a process of a node detects at this moment; Ray writes the method that runs into its title."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    titles = []
    for process in raylet.children(recursive=True):
        with suppress(psutil.Error):
            titles.append(" ".join(process.cmdline()).strip())
    return any("Predictor" in title and ".submit" in title for title in titles)


# ----------------------------------------------------------------------------------------------------------- Ray Train


def test_ray_train_starts_a_training(tmp_path: Path) -> None:
    """The recipe of the page on many images, with one epoch."""
    page = (Path(__file__).parents[1] / "docs" / "many-images.md").read_text(encoding="utf-8")
    (recipe,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "TorchTrainer" in block]
    write_tiny(tmp_path / "my_photos")
    code = recipe.replace("/shared", tmp_path.as_posix()).replace('out=config["out"]', 'out=config["out"], epochs=1')
    assert code.count(tmp_path.as_posix()) == 3
    assert "epochs=1" in code
    program = tmp_path / "train.py"
    program.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert load(tmp_path / "runs" / "photos").classes == ("blue", "red")
