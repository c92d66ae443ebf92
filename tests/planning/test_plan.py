"""A plan for any data: it validates, repeats itself, leaves the user's settings alone, and can be used."""

import json
import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
import yaml
from hypothesis import given, settings
from tiny import SETTINGS, write_tiny

import frcnn
from frcnn.cli import main
from frcnn.config import make_config, set_names
from frcnn.data.records import Record, Records, make_record
from frcnn.planning.fingerprint import fingerprint
from frcnn.planning.plan import Plan, make_plan


def plan_of(records: list[Record], **options: Any) -> Plan:
    return make_plan("x", fingerprint(records), Records.of(records), CONFIG, **options)


CONFIG = make_config()


@st.composite
def data_sets(draw: st.DrawFn) -> list[Record]:
    """Few or many images of any size, objects from a pixel to the whole image, also none in an image."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    side = st.sampled_from((10, 33, 300, 640, 4000, 20_000))
    sizes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=6))
    counts = [draw(st.sampled_from((0, 1, 2, 40, 1000))) for _ in sizes]
    counts[0] = max(counts[0], 1)
    least = draw(st.sampled_from((0.0, 0.01, 0.5)))
    records = []
    for (height, width), count in zip(sizes, counts, strict=True):
        sides = np.maximum(random.uniform(least, 1, (count, 2)) ** 3 * (width, height), 1)
        corners = random.uniform(0, 1, (count, 2)) * ((width, height) - sides)
        boxes = np.concatenate((corners, corners + sides), axis=1).tolist()
        objects = [(box, random.choice(["left", "right", "cat"])) for box in boxes]
        records.append(make_record(Path("a.png"), objects, (height, width)))
    return records


@settings(max_examples=30)
@given(data=data_sets())
def test_every_plan_validates_and_repeats_itself(data: list[Record]) -> None:
    plan = plan_of(data)
    assert plan_of(data) == plan
    assert json.loads(plan.to_json())["fingerprint"]["objects"] == sum(len(record.boxes) for record in data)
    assert len(str(plan).split("\n")) == 2 + len(plan.settings) + len(plan.warnings)


@settings(max_examples=10)
@given(data=data_sets())
def test_a_plan_is_a_config_file(data: list[Record], tmp_path_factory: pytest.TempPathFactory) -> None:
    plan, file = plan_of(data), tmp_path_factory.mktemp("plan") / "plan.yaml"
    file.write_text(plan.to_yaml())
    assert make_config(file=file) == plan.config
    assert set_names(file, {}) == set(plan.settings)


def test_tiles_that_would_hide_most_objects_are_not_chosen() -> None:
    """A line of one pixel is longer than a tile for objects of its area."""
    plan = plan_of([make_record(Path("a.png"), [((600, 1, 5800, 2), "crack")], (10, 20_000))])
    assert "detector.image.tile" not in plan.settings


def test_settings_that_the_user_names_stay() -> None:
    objects = [((10, 10, 18, 18), "left"), ((50, 50, 60, 60), "right")]
    plan = plan_of(
        [make_record(Path("a.png"), objects, (100, 100))] * 3, named={"train.flip", "detector.test_proposals.min_size"}
    )
    assert not {"train.flip", "detector.test_proposals.min_size"} & set(plan.settings)
    assert plan.settings["detector.train_proposals.min_size"] == 4


def test_the_command_writes_a_plan_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = write_tiny(tmp_path / "data"), tmp_path / "plan.yaml"
    assert main(["plan", str(data), "--out", str(file), "--json", str(tmp_path / "plan.json")]) == 0
    printed = capsys.readouterr().out
    assert "train.flip" in printed
    assert "no class seems to depend on left and right" in printed
    chosen = {
        choice for each in json.loads((tmp_path / "plan.json").read_text())["choices"] for choice in each["settings"]
    }
    assert chosen == set_names(file, {})
    quick = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main(["train", str(data), "--config", str(file), "--out", str(tmp_path / "run"), *quick]) == 0
    used = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert used["train"]["flip"] is True


def test_in_python(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    plan = frcnn.plan(data, settings={"train.flip": False})
    assert "train.flip" not in plan.settings
    assert plan.data == "data"
    assert plan == frcnn.plan(data, settings={"train.flip": False})


def test_the_cores_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    plan = frcnn.plan(write_tiny(tmp_path / "data"))
    assert plan.settings["data.workers"] == 2
