"""What the pages say in their text is true. `test_code_blocks.py` runs their code."""

import re
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from test_code_blocks import PAGES, ROOT, name_of

from frcnn.cli import make_parser


def mentions(page: Path) -> Iterator[list[str]]:
    """The arguments of each `frcnn` command in the page's running text; they may be incomplete. Commands of the
    changelog may be those of earlier versions."""
    if page.name == "CHANGELOG.md":
        return
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for mention in re.findall(r"`frcnn ([^`]+)`", prose):
        yield mention.split()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_in_the_text_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, *arguments in mentions(page):
        with pytest.raises(SystemExit) as done:
            make_parser().parse_args([name, "--help"])
        assert done.value.code == 0, name
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_the_pages_mention_commands() -> None:
    assert sum(len(list(mentions(page))) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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
