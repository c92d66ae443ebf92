"""The documentation does what it says."""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import frcnn
from frcnn.cli import make_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
WALKTHROUGH = ROOT / "docs" / "walkthrough.md"
OBJECTS = {"detector": "Detector", "detections": "Detections", "metrics": "Metrics", "result": "TrainResult"}
"""Variables of the examples, and the class of each."""


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced code blocks in these languages ("" for none)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [block for language, block in found if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each `frcnn` command in the page's code blocks, also of `torchrun ... -m frcnn`."""
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            start = re.search(r"^frcnn |(?<= -m )frcnn ", line)
            if start:
                yield shlex.split(line[start.start() :], comments=True)[1:]


def mentions(page: Path) -> Iterator[list[str]]:
    """The arguments of each `frcnn` command in the page's running text; they may be incomplete. Commands of the
    changelog may be those of earlier versions."""
    if page.name == "CHANGELOG.md":
        return
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for mention in re.findall(r"`frcnn ([^`]+)`", prose):
        yield mention.split()


def test_the_walkthrough_runs_from_top_to_bottom() -> None:
    found = blocks(WALKTHROUGH, "python")
    assert len(found) >= 8
    names: dict[str, object] = {}
    for block in found:
        exec(compile(block, "walkthrough.md", "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if page != WALKTHROUGH], ids=lambda page: page.name)
def test_examples_use_public_names_only(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        assert not [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id == "frcnn":
                assert node.attr in (*frcnn.__all__, "ray")  # a module with an extra of its own
            elif node.value.id in OBJECTS:
                shown = getattr(frcnn, OBJECTS[node.value.id])
                assert node.attr in {*dir(shown), *shown.__annotations__}, block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_valid(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser()
    for arguments in commands(page):
        try:
            parser.parse_args(arguments)
        except SystemExit:
            pytest.fail(f"frcnn {' '.join(arguments)}: {capsys.readouterr().err.splitlines()[-1]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, *arguments in mentions(page):
        with pytest.raises(SystemExit) as done:
            make_parser().parse_args([name, "--help"])
        assert done.value.code == 0, name
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_the_pages_show_commands() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 40
    assert sum(len(list(mentions(page))) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            target = page.parent / link if link else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_api_page_is_up_to_date() -> None:
    spec = spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert text == module.render(), "run `python docs/make_api.py`"
    assert "\n    class StopAtLoss(Callback):\n        def on_step" in text  # code, not a quotation
    assert ">>>" not in text
