"""What a release promises: the same version everywhere, the right files in the wheel, links that work."""

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = SETTINGS["project"]["version"]


def tool(name: str) -> ModuleType:
    """A script in tools/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = tool("release")
audit = tool("audit")


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == VERSION
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == SETTINGS["project"]["authors"]
    assert citation["license"] == SETTINGS["project"]["license"]
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(VERSION)} \((not released|\d{{4}}-\d\d-\d\d)\)", headings[0])


def test_the_changelog_has_a_section_for_each_version_newest_first() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    matches = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((not released|\d{4}-\d\d-\d\d)\)", heading) for heading in headings]
    assert all(matches), headings
    versions = [tuple(map(int, match.groups()[:3])) for match in matches if match]
    assert versions == sorted(set(versions), reverse=True)


def test_the_page_about_versions_names_the_lower_bounds() -> None:
    page = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    lowest = {each.split(">=")[0]: each.split(">=")[1] for each in SETTINGS["project"]["dependencies"]}
    assert f"| Python | {SETTINGS['project']['requires-python'].removeprefix('>=')} or newer |" in page
    assert f"| {lowest['torch']} or newer, {lowest['torchvision']} or newer |" in page
    pins = dict(re.findall(r"^(torch|torchvision)==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    assert f"| {pins['torch']} and {pins['torchvision']} at every change; " in page


FIXED = {
    "filelock": "3.20.3",
    "h11": "0.16",
    "jinja2": "3.1.6",
    "onnx": "1.23",
    "pillow": "12.3",
    "python-multipart": "0.0.22",
    "ray": "2.60",
    "starlette": "1.3.1",
    "tqdm": "4.66.3",
}
"""Older versions have known vulnerabilities in what frcnn uses. These only rise."""


@pytest.mark.parametrize("name", FIXED)
def test_no_lower_bound_allows_a_version_with_a_known_vulnerability(name: str) -> None:
    project = SETTINGS["project"]
    groups = (*project["optional-dependencies"].values(), *SETTINGS["dependency-groups"].values())
    listed = (each for group in (project["dependencies"], *groups) for each in group)
    requirements = [Requirement(each) for each in listed if isinstance(each, str)]
    named = [each for each in requirements if each.name == name]
    assert named
    for requirement in named:
        bounds = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
        assert bounds, requirement
        assert bounds[0] >= Version(FIXED[name])


@pytest.mark.parametrize(
    "file", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.stem
)
def test_issue_templates_are_forms(file: Path) -> None:
    form = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.stem == "config":
        assert isinstance(form["blank_issues_enabled"], bool)
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [each["id"] for each in form["body"] if each["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    for each in form["body"]:
        assert each["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert each["attributes"]["value" if each["type"] == "markdown" else "label"]


README = """![Photo](docs/a.jpg)

# frcnn

See [the page](docs/data.md#formats), [a site](https://example.org/) and [![Draw](docs/b.jpg)](docs/annotate.md).

```python
images[0](docs/data.md)
```

[MIT](LICENSE)
"""


def test_links_of_the_readme_lead_to_the_repository() -> None:
    text = release.index_readme(README, "https://example.org/frcnn/", "1.2.3")
    at = "https://example.org/frcnn"
    assert f"![Photo]({at}/raw/v1.2.3/docs/a.jpg)" in text
    assert f"[the page]({at}/blob/v1.2.3/docs/data.md#formats), [a site](https://example.org/)" in text
    assert f"[![Draw]({at}/raw/v1.2.3/docs/b.jpg)]({at}/blob/v1.2.3/docs/annotate.md)" in text
    assert "images[0](docs/data.md)" in text


def test_links_of_the_readme_become_text_without_a_repository() -> None:
    text = release.index_readme(README, None, "1.2.3")
    assert text.startswith("# frcnn\n")
    assert "See the page, [a site](https://example.org/) and .\n" in text
    assert "images[0](docs/data.md)" in text
    assert text.endswith("\nMIT\n")


@pytest.mark.parametrize("repository", [None, "https://example.org/frcnn"])
def test_the_readme_keeps_no_relative_link(repository: str | None) -> None:
    text = release.index_readme((ROOT / "README.md").read_text(encoding="utf-8"), repository, VERSION)
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)]*)\)", without_code)
    assert [each for each in targets if not each.startswith("http")] == []
    assert len(text) > 3000


FILES = ["LICENSE", "pyproject.toml", "src/frcnn/__init__.py", "src/frcnn/py.typed", "tests/test_a.py"]
PACKAGE = ("frcnn/__init__.py", "frcnn/py.typed", *(f"frcnn-1.0.dist-info/{name}" for name in release.INFO_FILES))


def wheel(folder: Path, *names: str, tag: str = "py3-none-any", content: bytes = b"") -> Path:
    file = folder / f"frcnn-1.0-{tag}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            about = f"Root-Is-Purelib: {str(tag == 'py3-none-any').lower()}\nTag: {tag}\n".encode()
            archive.writestr(name, about if name.endswith("/WHEEL") else content)
    return file


def test_a_right_wheel_passes(tmp_path: Path) -> None:
    release.check_wheel(wheel(tmp_path, *PACKAGE), FILES, "1.0")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (PACKAGE[1:], {}, r"missing \['frcnn/__init__.py'\]"),
        (PACKAGE[:1] + PACKAGE[2:], {}, r"missing \['frcnn/py.typed'\]"),
        (PACKAGE[:-1], {}, "licenses/LICENSE"),
        ((*PACKAGE, "tests/test_a.py"), {}, r"unexpected \['tests/test_a.py'\]"),
        ((*PACKAGE, "frcnn/old.py"), {}, r"unexpected \['frcnn/old.py'\]"),
        (PACKAGE, {"tag": "cp311-cp311-linux_x86_64"}, "is not for any computer"),
        (PACKAGE, {"content": bytes(200_000)}, "must be less than 750,000"),
    ],
)
def test_a_wrong_wheel_is_refused(tmp_path: Path, names: tuple[str, ...], options: dict, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        release.check_wheel(wheel(tmp_path, *names, **options), FILES, "1.0")


def sdist(folder: Path, *names: str, owner: str = "") -> Path:
    file = folder / "frcnn-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(f"frcnn-1.0/{name}")
            member.uname = owner
            archive.addfile(member)
    return file


def test_an_sdist_has_every_file_and_no_owner(tmp_path: Path) -> None:
    release.check_sdist(sdist(tmp_path, *FILES, "PKG-INFO"), FILES)
    with pytest.raises(SystemExit, match=r"missing \['tests/test_a.py'\], unexpected \[\]"):
        release.check_sdist(sdist(tmp_path, *FILES[:-1], "PKG-INFO"), FILES)
    with pytest.raises(SystemExit, match=r"unexpected \['runs/model.safetensors'\]"):
        release.check_sdist(sdist(tmp_path, *FILES, "PKG-INFO", "runs/model.safetensors"), FILES)
    with pytest.raises(SystemExit, match="without an owner"):
        release.check_sdist(sdist(tmp_path, *FILES, "PKG-INFO", owner="anna"), FILES)


def test_builds_that_differ_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "a.whl", tmp_path / "other" / "a.whl"
    for file in (one, other):
        file.parent.mkdir()
        file.write_bytes(b"same")
    release.must_equal([one], [other])
    other.write_bytes(b"else")
    with pytest.raises(SystemExit, match="two builds differ"):
        release.must_equal([one], [other])


def test_what_is_published_has_checksums(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.whl", tmp_path / "dist"
    file.write_bytes(b"content")
    folder.mkdir()
    (folder / "old.whl").touch()
    release.publish([file], folder)
    assert sorted(each.name for each in folder.iterdir()) == ["SHA256SUMS", "a.whl"]
    subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, check=True)
    (folder / "a.whl").write_bytes(b"other")
    assert subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, check=False).returncode == 1


def test_a_program_that_fails_ends_the_release() -> None:
    with pytest.raises(SystemExit, match=r"no such wheel\n\nended with status 3"):
        release.run(sys.executable, "-c", "print('no such wheel'); raise SystemExit(3)")


def audited(*packages: dict) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


GOOD = {"name": "good", "version": "1.0", "vulns": []}


def test_a_known_vulnerability_is_an_error() -> None:
    bad = {"name": "bad", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
    text, good = audit.verdict(audited(GOOD, bad), "Found 1 known vulnerability in 1 package")
    assert not good
    assert text == "bad 1.0: CVE-1, fixed in 1.1\npackages checked: 2; known vulnerabilities: 1"
    assert audit.verdict(audited(GOOD), "") == ("packages checked: 1; known vulnerabilities: 0", True)


def test_an_audit_names_what_it_did_not_check() -> None:
    text, good = audit.verdict(audited(GOOD, {"name": "other", "skip_reason": "not found"}), "")
    assert good
    assert text.endswith("vulnerabilities: 0\npackages not checked: 1 (other); the first: not found")


@pytest.mark.parametrize(
    "error",
    [
        "requests.exceptions.ConnectionError: Max retries exceeded with url: /v1/query",
        "ERROR:pip_audit._cli:Could not connect to the vulnerability feed\nERROR:pip_audit._cli:Tip: your network may",
    ],
)
def test_an_audit_without_a_connection_says_so(error: str) -> None:
    text, good = audit.verdict("", f"Traceback\n{error}\n")
    assert good
    assert text == f"not checked: {error.splitlines()[-1]}"


def test_an_audit_that_fails_otherwise_is_an_error() -> None:
    text, good = audit.verdict("", "WARNING:no connection\nERROR:pip_audit._cli:constraints.txt: invalid specifier\n")
    assert not good
    assert "invalid specifier" in text
