import os
from pathlib import Path

import pytest

from frcnn import cores
from frcnn.cores import limit_threads, usable_cores


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files in which a container's limits are: none yet. The process may use eight cores."""
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "_OLD_QUOTA", (tmp_path / "cpu.cfs_quota_us", tmp_path / "cpu.cfs_period_us"))
    monkeypatch.setattr(cores, "_bound_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 8)]
)
def test_the_limit_of_a_container_counts(container: Path, quota: str, expected: int) -> None:
    (container / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 8)])
def test_the_limit_of_an_older_system_counts(container: Path, quota: str, expected: int) -> None:
    (container / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (container / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores() == expected


def test_a_limit_above_the_cores_changes_nothing(container: Path) -> None:
    (container / "cpu.max").write_text("1600000 100000\n")
    limit_threads()
    assert usable_cores() == 8
    assert "OMP_NUM_THREADS" not in os.environ


def test_libraries_start_as_many_threads_as_the_container_may_use(
    container: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (container / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "1"  # what the user has set stays
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "2"
