"""Broken and hostile files end in a result or in a clear error, soon, and without much memory.

`make fuzz` tries many more.
"""

import re
from pathlib import Path
from random import Random

import hypothesis.strategies as st
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given, settings

if not Path("/proc/self/clear_refs").exists():
    pytest.skip("memory is measured by Linux", allow_module_level=True)
from fuzz.kinds import KINDS, run_case

REPORT = Path(__file__).parents[2] / "benchmarks" / "hostile.md"


def test_the_report_has_every_kind() -> None:
    assert re.findall(r"^\| (.+?) \| \d", REPORT.read_text(encoding="utf-8"), re.MULTILINE) == list(KINDS)


@pytest.mark.filterwarnings("ignore")  # of Pillow and other readers
@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_read_and_any_change_of_it_ends_well(name: str) -> None:
    kind = KINDS[name]
    assert run_case(kind, None).error is None

    @settings(max_examples=5 if kind.is_slow else 25)
    @given(random=st.randoms(use_true_random=False))
    def changed(random: Random) -> None:
        run_case(kind, random)

    changed()
