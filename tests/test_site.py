"""The documentation site: its pages, links and search, opened from a folder, without a network."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urldefrag

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

ROOT = Path(__file__).parents[1]
LAPTOP: ViewportSize = {"width": 1366, "height": 768}
PHONE: ViewportSize = {"width": 360, "height": 740}
LINKS = {"a": "href", "area": "href"}
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
"""Attributes with an address: those that a reader follows, and those that a browser loads."""


class Html(HTMLParser):
    """What a page links to and loads, its anchors, and its text outside of code."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.nav: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids |= {values[key] or "" for key in ("id", "name") if key in values}
        if tag in LINKS and values.get("href") is not None:
            self.links.append(values["href"] or "")
            if "md-nav__link" in (values.get("class") or ""):
                self.nav.append(values["href"] or "")
        elif tag in LOADED and values.get(LOADED[tag]):
            self.loaded.append(values[LOADED[tag]] or "")
        self.loaded += [each.split()[0] for each in (values.get("srcset") or "").split(",") if each.strip()]
        self.loaded += re.findall(r"url\(['\"]?([^'\")]+)", values.get("style") or "")
        if tag in ("pre", "code", "script", "style", "svg"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text += data
        elif self._open[-1] == "style":
            self.loaded += addresses_of(data)


def addresses_of(css: str) -> list[str]:
    """What a style sheet loads."""
    found = re.findall(r"@import\s+['\"]([^'\"]+)|url\(\s*['\"]?([^'\")]+)", css)
    return [first or second for first, second in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. The build is strict: zensical fails at a broken link between pages."""
    if find_spec("zensical") is None and not os.environ.get("CI"):
        pytest.skip("zensical, which builds the site, is not installed: it needs Python 3.11.5 or newer")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, ROOT / "docs" / "make_site.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    found = {file: Html(file) for file in sorted(site.rglob("*.html"))}
    assert len(found) > 60
    return found


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """Without a network. Errors of a page, also on its console, and requests to another place fail the test."""
    failures: list[str] = []
    with browser.new_context(viewport=LAPTOP, offline=True) as context:
        page = context.new_page()
        page.on("console", lambda said: failures.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: failures.append(f"{page.url}: {error}"))
        page.on("requestfailed", lambda request: failures.append(f"{page.url}: {request.url} failed"))
        page.on("request", lambda request: None if is_local(request.url) else failures.append(request.url))
        yield page
    assert not failures


def is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "about:"))


def target_of(file: Path, address: str) -> tuple[Path, str]:
    """The file that a relative address leads to, and the anchor in it."""
    path, anchor = urldefrag(address)
    return (file.parent / unquote(path)).resolve() if path else file, unquote(anchor)


def test_links_lead_somewhere(pages: dict[Path, Html]) -> None:
    broken = []
    for file, page in pages.items():
        for address in page.links:
            if not re.match("https?:|mailto:", address):
                target, anchor = target_of(file, address)
                if target not in pages or (anchor and anchor not in pages[target].ids):
                    broken.append(f"{file.name}: {address}")
    assert not broken


def test_everything_that_is_loaded_is_a_file_of_the_site(site: Path, pages: dict[Path, Html]) -> None:
    loaded = {(file, address) for file, page in pages.items() for address in page.loaded}
    loaded |= {(file, url) for file in site.rglob("*.css") for url in addresses_of(file.read_text(encoding="utf-8"))}
    assert len(loaded) > 5 * len(pages)
    elsewhere = {address for _, address in loaded if re.match("https?:|//", address)}
    assert not elsewhere
    missing = [
        address
        for file, address in loaded
        if not address.startswith(("data:", "#")) and not target_of(file, address.partition("?")[0])[0].is_file()
    ]
    assert not missing


def test_every_page_is_in_the_navigation(site: Path, pages: dict[Path, Html]) -> None:
    first = site / "index.html"
    listed = {target_of(first, address)[0] for address in pages[first].nav if not address.startswith("#")}
    assert {file for file in pages if file != first} <= listed
    reached, new = {first}, {first}
    while new:
        links = {target_of(file, address)[0] for file in new for address in pages[file].links if is_relative(address)}
        new = links - reached
        reached |= new
    assert reached == set(pages)


def is_relative(address: str) -> bool:
    return not re.match(r"\w+:", address)


def test_all_markdown_is_parsed(pages: dict[Path, Html]) -> None:
    signs = ("```", "](", "<!--", "**", "\n* ", "\n| ", "\n#")
    left = [(file.name, sign) for file, page in pages.items() for sign in signs if sign in page.text]
    assert not left


def test_pages_fit_a_phone(browser: Browser, pages: dict[Path, Html]) -> None:
    """Without scripts, which take most of a page's time."""
    with browser.new_context(viewport=PHONE, java_script_enabled=False) as context:
        page = context.new_page()
        assert not [file.name for file in pages if width_of(page, file) > PHONE["width"]]


@pytest.mark.parametrize("name", ["index", "how-it-works", "data", "benchmarks/grocery"])
def test_pages_fit_the_screen(tab: Page, site: Path, name: str) -> None:
    """With scripts, and so without an error in them."""
    for size in (LAPTOP, PHONE):
        tab.set_viewport_size(size)
        assert width_of(tab, site / f"{name}.html") <= size["width"]


def width_of(tab: Page, file: Path) -> int:
    tab.goto(file.as_uri())
    width: int = tab.evaluate("document.documentElement.scrollWidth")
    return width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_follow_the_system(tab: Page, site: Path, scheme: Literal["light", "dark"]) -> None:
    tab.emulate_media(color_scheme=scheme)
    tab.goto((site / "training.html").as_uri())
    background = lightness(tab, "body", "background-color")
    assert background < 0.05 if scheme == "dark" else background > 0.9
    for selector in ("article p", "article a:not(.headerlink)", "article pre code", "article td"):
        text = lightness(tab, selector, "color")
        bright, dark = max(text, background), min(text, background)
        assert (bright + 0.05) / (dark + 0.05) > 4.5, selector  # WCAG 2, level AA


def lightness(tab: Page, selector: str, name: str) -> float:
    """The relative luminance of a color, 0 to 1, as WCAG 2 defines it."""
    style = "element => getComputedStyle(element).getPropertyValue"
    color = tab.locator(selector).first.evaluate(f"{style}('{name}')")
    red, green, blue = (int(value) / 255 for value in re.findall(r"[\d.]+", color)[:3])
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_the_search_finds_a_word(tab: Page, site: Path, size: ViewportSize) -> None:
    tab.set_viewport_size(size)
    tab.goto((site / "index.html").as_uri())
    tab.locator(".md-search__button, label[for=__search]").locator("visible=true").first.click()
    tab.keyboard.type("bootstrap")
    tab.get_by_role("option", name="How good", exact=True).click()
    expect(tab).to_have_url(re.compile(r"/report\.html"))
    expect(tab.get_by_role("heading", name="How good")).to_be_in_viewport()


def test_the_generated_pages_are_up_to_date() -> None:
    spec = spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in (("cli.md", module.render_commands()), ("settings.md", module.render_settings())):
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, "run `python docs/make_reference.py`"
        assert re.search(r"^\* `--base-model NAME`: |^\* `train\.flip`: ", text, flags=re.MULTILINE)


def test_the_figures_of_the_results_are_those_of_their_pages() -> None:
    page = ROOT / "docs" / "results.md"
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+? \| (.+?) \| \[.+?\]\((.+?)\) \| `.+?` \|", text, flags=re.MULTILINE)
    assert {(page.parent / link).resolve() for _, link in rows} == set((ROOT / "benchmarks").glob("*.md"))
    for answer, link in rows:
        text = (page.parent / link).read_text(encoding="utf-8")
        for figure in re.findall(r"\d[\d.,]*\d|\d", re.sub("mAP50", "", answer)):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", text), f"{link}: {figure}"
