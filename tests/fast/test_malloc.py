"""Memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

from frcnn import cli
from frcnn.fast.malloc import tune_malloc

_FAULTS = """
import resource, sys
from frcnn.fast.malloc import tune_malloc
if sys.argv[1:]:
    assert tune_malloc()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(100_000_000)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc only")
def test_what_was_freed_is_not_asked_for_again() -> None:
    """By the pages that the system had to find for a block as large as the one before."""
    pages = [
        int(subprocess.run([sys.executable, "-c", _FAULTS, *keep], check=True, capture_output=True, text=True).stdout)
        for keep in ([], ["keep"])
    ]
    assert pages[0] > 100 > pages[1]


def test_the_commands_keep_their_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(cli, "tune_malloc", lambda: calls.append(True))
    assert cli.main(["config"]) == 0
    assert calls == [True]
    assert "train" in capsys.readouterr().out


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not tune_malloc()
