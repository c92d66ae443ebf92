"""What the tests share: checked tensor shapes, and where the real photos lie."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Every jaxtyping annotation of the package is checked at every call made by the tests.
with install_import_hook("frcnn.ops", "typechecker.check"):
    import frcnn.ops.anchors
    import frcnn.ops.boxes
    import frcnn.ops.coding
    import frcnn.ops.losses
    import frcnn.ops.matching
    import frcnn.ops.roi_pooling
    import frcnn.ops.sampling
    import frcnn.ops.selection  # noqa: F401


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photos and weights: $FRCNN_SHARED, else ../shared. It may not be missing in CI."""
    folder = Path(os.environ.get("FRCNN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "datasets" / "grocery").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder}: the real photos are missing, and CI may not skip their tests")
        pytest.skip(f"{folder}: no real photos there; set FRCNN_SHARED to their folder")
    return folder
