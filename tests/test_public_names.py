"""What `import frcnn` promises."""

import subprocess
import sys

import pytest

import frcnn


def test_the_public_names() -> None:
    assert frcnn.__all__ == [
        "Callback",
        "CrossvalResult",
        "Detections",
        "Detector",
        "Evaluator",
        "FasterRCNN",
        "Metrics",
        "Plan",
        "TrainResult",
        "check",
        "convert",
        "crossval",
        "from_detectron2",
        "from_mmdetection",
        "from_torchvision",
        "load",
        "plan",
        "train",
        "tune_malloc",
    ]
    assert set(dir(frcnn)) == {*frcnn.__all__, "__version__"}


@pytest.mark.parametrize("name", frcnn.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(frcnn, name).__name__ == name
    assert getattr(frcnn, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'frcnn' has no attribute 'fit'"):
        _ = frcnn.fit  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", ["import frcnn", "import frcnn.cli", "import frcnn.cli; frcnn.cli.make_parser()"])
def test_neither_the_import_nor_the_help_waits_for_torch(code: str) -> None:
    subprocess.run([sys.executable, "-c", f"{code}; import sys; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("value", [3, {}, [], b"data", object()])
@pytest.mark.parametrize(
    ("name", "argument"), [("load", "path"), ("plan", "data"), ("check", "data"), ("train", "data")]
)
def test_a_value_that_is_no_path_is_named_with_its_argument(name: str, argument: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{argument}: .* is not a path"):
        getattr(frcnn, name)(value)
    with pytest.raises(ValueError, match=f"{argument}: is empty"):
        getattr(frcnn, name)("")
