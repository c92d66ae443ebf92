"""The notebooks are stored without outputs and use public names only. `make notebooks` runs them; the pages that it
writes are tested here."""

import ast
import json
import re
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_docs import anchors

import frcnn

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
KEYS = {
    "markdown": {"cell_type", "id", "metadata", "source"},
    "code": {"cell_type", "execution_count", "id", "metadata", "outputs", "source"},
}
PIXEL = "iVBORw0KGgo="


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return found


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code_trees(notebook: Path) -> list[ast.Module]:
    code = [cell["source"] for cell in cells(notebook) if cell["cell_type"] == "code"]
    return [ast.parse("".join(line for line in lines if line != "%matplotlib inline\n")) for lines in code]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = spec_from_file_location("make_notebooks", DOCS / "make_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebooks() -> None:
    names = ["inside-faster-rcnn", "own-data", "quick-start", "understand-and-improve"]
    assert [notebook.stem for notebook in NOTEBOOKS] == names


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_it_is_stored_as_jupyter_stores_it(notebook: Path) -> None:
    """So that editing it in Jupyter changes nothing else."""
    text = notebook.read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    assert content.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"] == {  # no widgets, no version of Python
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_the_cells_have_names_and_no_outputs(notebook: Path) -> None:
    found = cells(notebook)
    for cell in found:
        assert cell.keys() == KEYS[cell["cell_type"]]
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cell["id"]), "a name that stays, not a random number"
        assert len(cell["id"]) <= 64
        assert cell["metadata"].keys() <= ({"alt"} if cell["cell_type"] == "code" else set())
        assert source(cell) == source(cell).strip() != ""
        assert source(cell).splitlines(keepends=True) == cell["source"]
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert len({cell["id"] for cell in found}) == len(found)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_it_begins_with_a_title_and_ends_with_something_to_try(notebook: Path) -> None:
    first, *_, last = cells(notebook)
    assert source(first).startswith("# ")
    assert source(last).startswith("## Try it\n\n* ")
    titles = [cell for cell in cells(notebook) if cell["cell_type"] == "markdown" and source(cell).startswith("# ")]
    assert titles == [first]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_its_code_uses_public_names_only(notebook: Path) -> None:
    nodes = [node for tree in code_trees(notebook) for node in ast.walk(tree)]
    assert any(isinstance(node, ast.Import) and node.names[0].name == "frcnn" for node in nodes)
    for node in nodes:
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "frcnn":
                assert node.attr in frcnn.__all__
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("frcnn."):
            for each in node.names:
                assert not each.name.startswith("_")
                assert hasattr(import_module(str(node.module)), each.name)
                assert is_documented(str(node.module), each.name), f"{node.module}.{each.name}"


def is_documented(module: str, name: str) -> bool:
    """Whether a page shows this name, or it is one of the plain functions that the walkthrough is about."""
    if module.startswith(("frcnn.nn.", "frcnn.ops.")):
        return True
    pages = [page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")]
    return any(f"{module}.{name}" in text or f"from {module} import {name}\n" in text for text in pages)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_its_links_lead_somewhere(notebook: Path) -> None:
    for cell in cells(notebook):
        if cell["cell_type"] != "markdown":
            continue
        for link, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", source(cell)):
            if not link.startswith("http"):
                target = notebook.parent / link
                assert target.is_file(), link
                assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def code_cell(*outputs: dict[str, Any], **metadata: str) -> dict[str, Any]:
    return {"cell_type": "code", "id": "run", "metadata": metadata, "source": "print(1)", "outputs": list(outputs)}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {key.replace("_", "/"): text for key, text in data.items()}}


def test_a_page_has_text_code_and_outputs_in_order(maker: ModuleType) -> None:
    text = {"cell_type": "markdown", "source": "# Title\n\nSee [more](own-data.ipynb) and [data](../data.md)."}
    picture = shown(image_png=PIXEL, text_plain="<Figure>")
    code = code_cell(stream("one\n"), picture, stream("two\n"), stream("50%\r", "stderr"), alt="a [small] figure")
    page, pictures = maker.page({"cells": [text, code]}, "mine")
    assert page.split("\n\n") == [
        "<!-- Made by docs/make_notebooks.py from mine.ipynb. -->",
        "# Title",
        "See [more](own-data.md) and [data](../data.md).",
        "```python\nprint(1)\n```",
        "```text\none\n```",
        "![a  small  figure](mine-1.png)",
        "```text\ntwo\n```\n",
    ]
    assert pictures == {"mine-1.png": b"\x89PNG\r\n\x1a\n"}


def test_detections_describe_themselves(maker: ModuleType) -> None:
    cell = code_cell(shown(image_png=PIXEL, text_plain="<Detections: 2 in a.jpg (2 milk)>"))
    page, _ = maker.page({"cells": [cell]}, "mine")
    assert "![Detections: 2 in a.jpg (2 milk)](mine-1.png)" in page


def test_a_picture_without_text_alternative_is_an_error(maker: ModuleType) -> None:
    cell = code_cell(shown(image_png=PIXEL, text_plain="<Figure size 640x480 with 1 Axes>"))
    with pytest.raises(maker.OutputError, match="cell run: its picture needs a text alternative"):
        maker.page({"cells": [cell]}, "mine")


def test_a_figure_that_is_shown_as_text_is_an_error(maker: ModuleType) -> None:
    with pytest.raises(maker.OutputError, match="cell run: its figure is text"):
        maker.page({"cells": [code_cell(shown(text_plain="<Figure size 640x480 with 1 Axes>"))]}, "mine")


def test_a_progress_bar_is_left_out(maker: ModuleType) -> None:
    bar = shown(text_plain="0%|  | 0/8")
    bar["data"]["application/vnd.jupyter.widget-view+json"] = {}
    page, _ = maker.page({"cells": [code_cell(bar)]}, "mine")
    assert page.endswith("```python\nprint(1)\n```\n")


def test_a_warning_is_an_error(maker: ModuleType) -> None:
    maker.check_outputs(code_cell(stream("a.py:1: TqdmWarning: IProgress not found. Update\n", "stderr")), "/tmp/x")
    with pytest.raises(maker.OutputError, match="UserWarning: old"):
        maker.check_outputs(code_cell(stream("50%\ra.py:1: UserWarning: old\n  f()\n", "stderr")), "/tmp/x")


def test_an_output_with_the_path_of_the_folder_is_an_error(maker: ModuleType) -> None:
    maker.check_outputs(code_cell(stream("x/a.jpg"), shown(image_png=PIXEL, text_plain="/tmp/x/a.jpg")), "/tmp/x")
    for output in (stream("see /tmp/x/a.jpg"), shown(text_plain="'/tmp/x/a.jpg'")):
        with pytest.raises(maker.OutputError, match="cell run: an output names the folder /tmp/x"):
            maker.check_outputs(code_cell(output), "/tmp/x")


def test_a_page_is_written_with_its_pictures_alone(maker: ModuleType, tmp_path: Path) -> None:
    maker.write_page("old", {"mine-1.png": b"1", "mine-2.png": b"2"}, "mine", tmp_path / "out")
    maker.write_page("new", {"mine-1.png": b"3"}, "mine", tmp_path / "out")
    written = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert written == {"mine.md": b"new", "mine-1.png": b"3"}
