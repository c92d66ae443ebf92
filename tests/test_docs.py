"""The documentation does what it says."""

import re
from pathlib import Path

import pytest

import frcnn

ROOT = Path(__file__).parents[1]


def python_blocks(file: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", file.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_walkthrough_runs_from_top_to_bottom() -> None:
    blocks = python_blocks(ROOT / "docs" / "walkthrough.md")
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "walkthrough.md", "exec"), names)


@pytest.mark.parametrize("name", ["README.md", "docs/predict.md"])
def test_examples_use_public_names_only(name: str) -> None:
    (block,) = python_blocks(ROOT / name)
    compile(block, name, "exec")
    used = set(re.findall(r"frcnn\.(\w+)", block))
    assert used
    assert used <= set(frcnn.__all__)


@pytest.mark.parametrize("file", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda f: f.name)
def test_links_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", file.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (file.parent / link).exists(), link
