"""Build the documentation site from the repository's pages.

    python docs/make_site.py [FOLDER]    # FOLDER/html/index.html; FOLDER is build/site by default

Needs the dependency group `docs`. The pages are written for GitHub. This script copies them into FOLDER/pages, changes
their links so that they lead to pages of the site, and runs zensical with docs/zensical.toml.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any, NamedTuple

import make_notebooks

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "docs" / "zensical.toml"
NOTEBOOKS = ROOT / "build" / "notebooks"
"""Where `make notebooks` writes pages with outputs."""
PROJECT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
TEXTS = (
    ("CITATION.cff", "project/citation.md", "How to cite frcnn", "yaml"),
    ("LICENSE", "project/license.md", "License", "text"),
)
"""Files that become pages: file, place, title, language."""
PROGRAMS = {"node": "Node.js", "cpp": "C++", "csharp": "C#", "browser": "a browser", "cvat": "CVAT"}
"""The folders in examples/, and what their programs run in."""
LANGUAGES = {".cs": "csharp", ".csproj": "xml", ".py": "python", ".txt": "cmake"}
"""Suffixes of files that are not the name of their language."""

LINK = re.compile(r"\[((?:!\[[^\]]*\]\([^)]*\)|[^\[\]])*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
"""A relative link: text, path, anchor."""


class Page(NamedTuple):
    source: str
    """Its file or folder in the repository."""
    place: str
    """Its file in the site's sources."""
    text: str


def build(folder: Path) -> Path:
    """Build the site. Returns its first page.

    Raises:
        ValueError: a page is missing in `nav`, `nav` lists one that does not exist, or zensical found something, which
            it has printed.
    """
    for made in ("pages", "html"):
        shutil.rmtree(folder / made, ignore_errors=True)
    stage(folder / "pages")
    config = shutil.copy(CONFIG, folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", config]
    if subprocess.run(command, check=False).returncode:
        raise ValueError(f"zensical failed; the pages that it names are in {folder / 'pages'}")
    for name in ("404.html", "sitemap.xml"):  # need to know the site's address
        (folder / "html" / name).unlink()
    return folder / "html" / "index.html"


def stage(folder: Path) -> None:
    """Write the sources of all pages, and what they show."""
    pages = list(find_pages())
    existing = {page.place for page in pages}
    listed = set(_listed(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]))
    if existing != listed:
        raise ValueError(
            f"docs/zensical.toml: `nav` must list every page. Not listed: {sorted(existing - listed) or 'none'}. "
            f"Listed, but there is no such page: {sorted(listed - existing) or 'none'}"
        )
    places = {page.source: page.place for page in pages} | {"README.md": "index.md"}
    titles = {page.place: _title(page.text) for page in pages}
    for source, file in _shown():
        place = source.removeprefix("docs/")
        places[source] = place
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / place)
    for page in pages:
        (folder / page.place).parent.mkdir(parents=True, exist_ok=True)
        (folder / page.place).write_text(for_site(page, places, titles), encoding="utf-8")


def find_pages() -> Iterator[Page]:
    """All pages, as they are in the repository."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        yield _page(path, path.name)
    for path in sorted((ROOT / "benchmarks").glob("*.md")):
        # index.md would be the page of the folder.
        yield _page(path, f"benchmarks/{'million_images.md' if path.name == 'index.md' else path.name}")
    for name in PROJECT_PAGES:
        yield _page(ROOT / name, f"project/{name.lower()}")
    for name, place, title, language in TEXTS:
        text = (ROOT / name).read_text(encoding="utf-8").strip()
        yield Page(name, place, f"# {title}\n\n```{language}\n{text}\n```\n")
    yield Page("docs/notebooks", "notebooks/index.md", (ROOT / "docs/notebooks/README.md").read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        yield Page(f"docs/notebooks/{path.stem}.md", f"notebooks/{path.stem}.md", _notebook(path))
    links = "\n".join(f"* [{title}]({name})" for name, title in PROGRAMS.items())
    yield Page("examples", "examples/index.md", f"# Example programs\n\nPrograms that run a detector in\n\n{links}\n")
    for name, title in PROGRAMS.items():
        yield Page(f"examples/{name}", f"examples/{name}.md", _program(ROOT / "examples" / name, title))


def _shown() -> Iterator[tuple[str, Path]]:
    """What the pages show: path in the repository, and the file. `make notebooks` writes pictures to a build folder."""
    for folder in ("docs/images", "docs/assets"):
        for file in sorted((ROOT / folder).iterdir()):
            yield f"{folder}/{file.name}", file
    for file in sorted(NOTEBOOKS.glob("*.png")):
        yield f"docs/notebooks/{file.name}", file


def _notebook(path: Path) -> str:
    """The page that `make notebooks` wrote, or else one without outputs."""
    made = NOTEBOOKS / f"{path.stem}.md"
    if made.exists():
        return made.read_text(encoding="utf-8")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell | {"source": "".join(cell["source"])} for cell in notebook["cells"]]
    return make_notebooks.page({"cells": cells}, path.stem)[0]


def _title(text: str) -> str:
    found = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    return found[1] if found else ""


def _page(path: Path, place: str) -> Page:
    return Page(path.relative_to(ROOT).as_posix(), place, path.read_text(encoding="utf-8"))


def _program(folder: Path, title: str) -> str:
    """A page with all files of a folder."""
    readme = folder / "README.md"
    parts = [readme.read_text(encoding="utf-8").strip() if readme.exists() else f"# Example for {title}"]
    for file in sorted(folder.iterdir()):
        if file.is_file() and file != readme and not file.name.startswith("."):
            language = LANGUAGES.get(file.suffix, file.suffix[1:])
            parts.append(f"## {file.name}\n\n```{language}\n{file.read_text(encoding='utf-8').strip()}\n```")
    return "\n\n".join(parts) + "\n"


def _listed(entries: list[Any]) -> Iterator[str]:
    """The pages in `nav`."""
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _listed(value)


def for_site(page: Page, places: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """The text of a page with links that lead to pages of the site, with its drawing, and without comments.

    Args:
        page: a page as it is in the repository.
        places: file or folder in the repository -> file in the site.
        titles: file in the site -> its title.

    Raises:
        ValueError: a link leads nowhere.
    """
    here = page.source if (ROOT / page.source).is_dir() else dirname(page.source)

    def link(match: re.Match[str]) -> str:
        text, target, anchor = LINK.sub(link, match[1]), match[2], match[3] or ""  # an image may be the text of a link
        path = normpath(join(here, target)).removesuffix("/README.md").replace(".ipynb", ".md")
        if not (path in places or (ROOT / path).exists()):
            raise ValueError(f"{page.source} links to {target}, which does not exist")
        if path not in places:  # a file that is no page
            return text if text.startswith("`") else f"`{text}`"
        if re.fullmatch(r"[\w./-]+\.(md|ipynb)", text):
            text = titles[places[path]]
        return f"[{text}]({relpath(places[path], dirname(page.place) or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```$)", page.text, flags=re.DOTALL | re.MULTILINE)
    for index in range(0, len(parts), 2):  # the others are code
        text = re.sub(
            r"\[((?:!\[[^\]]*\]\([^)]*\)|[^\[\]])*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", link, parts[index]
        )
        text = re.sub(r"^<!-- drawing: ([\w-]+) -->$", _drawing, text, flags=re.MULTILINE)
        parts[index] = re.sub(r"^<!--.*?-->\n", "", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(parts)


def _drawing(match: re.Match[str]) -> str:
    """A place for docs/assets/NAME.js to draw on, with its style sheet."""
    name = match[1]
    return (
        f'<div id="{name}" class="drawing"></div>\n<link rel="stylesheet" href="assets/{name}.css">\n'
        f'<script src="assets/{name}.js"></script>\n'
    )


if __name__ == "__main__":
    try:
        print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"))
    except ValueError as error:
        sys.exit(f"make_site.py: {error}")
