"""What the tests share: checked tensor shapes, returned memory, where the real photos are, and a browser."""

import ctypes
import gc
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from jaxtyping import install_import_hook
from playwright.sync_api import Browser, sync_playwright

# Every jaxtyping annotation of the package is checked at every call made by the tests.
with install_import_hook("frcnn.ops", "typechecker.check"):
    pass

# Threads of tests that run side by side would wait for each other.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    threads = max(1, (os.cpu_count() or 1) // int(workers))
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the programs that tests start

_THREADS = torch.get_num_threads()

_PROCESS = psutil.Process()
_GROWTH = 500_000_000  # bytes
_memory = _PROCESS.memory_info().rss


def pytest_runtest_setup() -> None:
    """The last bits of weights depend on the number of threads, which a test may have changed."""
    torch.set_num_threads(_THREADS)


def pytest_runtest_teardown() -> None:
    """Return memory. Models are parts of cycles, and the commands keep what is freed (`tune_malloc`), so a process that
    runs hundreds of tests would grow to many gigabytes."""
    global _memory
    if _PROCESS.memory_info().rss < _memory + _GROWTH:
        return
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    _memory = _PROCESS.memory_info().rss


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photos and weights: $FRCNN_SHARED, else ../shared. It may not be missing in CI."""
    folder = Path(os.environ.get("FRCNN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "datasets" / "grocery").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder}: the real photos are missing, and CI may not skip their tests")
        pytest.skip(f"{folder}: no real photos there; set FRCNN_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One that is installed already. It may not be missing in CI."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no browser is installed, and CI may not skip the tests of pages")
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *quiet])
        yield started
        started.close()
