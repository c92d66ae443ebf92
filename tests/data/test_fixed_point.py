"""Resizing in whole numbers, as OpenCV does: for detectors of mmdetection."""

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given
from oracles.mmdetection import resize_linear
from PIL import Image

from frcnn.data.transforms import at_points, in_fixed_point, resize
from frcnn.resizing import Resizing

OPENCV = [
    (
        (5, 4),
        (7, 9),
        "0025940d2e983245a35258a84f498c4d3a708b6a94d1a4c1ecbad22193bf2592ba3191ac408ba16564ac893cb77f54cb6d75"
        "df6681e76aadcf63adca50adbd46a8b57c81d1b25bed8058e73f5add275bd9e421a3d133b0a064d57790f48e9bf1a5a5ee9a"
        "8dca8b71a0856691499ac949a0cb48b2d046c0d03eabaf37978d53a69074ba9780c29a4ad8b44ad3aa4ac6914cba7855b768"
        "5eb3577ec65da0db65ade3699fea8496dc717db73f6e9a169ebe2ccfe243dde338e7e028ebdf22",
    ),
    (
        (11, 13),
        (6, 5),
        "2d6f9299caa2d17c9b6888c4527e84675466628e9387d9b873797e6e366d91a73b5c2727f7762b738d67918eabc2d83c8650"
        "4f34984c8fa881a6a29095bf376f4d37f082207b7e5aac64a57b6584709c9984bdae604e4bb8c3af",
    ),
    ((6, 8), (3, 4), "6b4cb69a80b029d0c65280ba589e72afbb55667793788e708978714b7d7c6961a3a36169"),
    (
        (3, 9),
        (8, 9),
        "002594525aac4d386decbad239e5e02ab997bf36f20257f6e421a3072b9a575fb0503b6fdebbd239e4df28b694bb41ed0c60"
        "efdc289a3353be787bc9654c7d8ac1d537dfd61ba67fa383cd4797c4ae54645e7be29898e27a5d8a35c7d736d9cd0e956b8b"
        "c6ae81ce997f802e869fd3b5b1c88c6b940cc9d631d1c02d81536fd58b8ad39a7ca823abc092cec67b9a759a0fc8d128c4b0"
        "77693850b3645fa5c6a5cd44cfe051e7db2fa87fa111c7cc1fb8a0c2521d31903d3577f3cdf265d5e646ebdf22aa81a212c7"
        "cb1eb69dce4e182c8a372e6ffad4f86b",
    ),
]
"""(height, width) before and after, and what OpenCV 4.14's cv2.resize (x86-64, INTER_LINEAR) gives, as hexadecimal."""


@pytest.mark.parametrize(("before", "after", "expected"), OPENCV)
def test_fixed_point_resizing_is_opencvs(before: tuple[int, int], after: tuple[int, int], expected: str) -> None:
    pixels = (np.arange(3 * before[0] * before[1]) ** 2 * 37 % 251).astype(np.uint8).reshape(*before, 3)
    settings = Resizing("fit", width=after[1], height=after[0], antialias=False, fixed_point=True)
    assert resize(Image.fromarray(pixels), after, settings).tobytes().hex() == expected


@given(
    before=st.tuples(st.integers(1, 30), st.integers(1, 30)), after=st.tuples(st.integers(1, 30), st.integers(1, 30))
)
def test_fixed_point_resizing_is_a_loop_over_pixels(before: tuple[int, int], after: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*before, 3), dtype=np.uint8)
    np.testing.assert_array_equal(in_fixed_point(pixels, *after), resize_linear(pixels, *after))
    assert np.abs(in_fixed_point(pixels, *after) - at_points(pixels.astype(np.float32), *after)).max() < 1.1
