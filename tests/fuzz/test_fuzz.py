"""Broken and hostile files end in a result or in a clear error, soon, and without much memory.

`make fuzz` tries many more.
"""

from random import Random

import hypothesis.strategies as st
import pytest
import strategies  # noqa: F401  (its profile)
from fuzz.kinds import KINDS, run_case
from hypothesis import given, settings


@pytest.mark.parametrize("kind", KINDS)
def test_the_original_is_read(kind: str) -> None:
    assert run_case(KINDS[kind], None).error is None


@pytest.mark.filterwarnings("ignore")  # of Pillow and other readers
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(random=st.randoms(use_true_random=False))
def test_any_change_of_a_file_ends_well(kind: str, random: Random) -> None:
    run_case(KINDS[kind], random)
