"""docs/licenses.md is up to date, and every package may be used."""

import re
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from licenses import (
    DEVELOPMENT,
    PAGE,
    STATED,
    UNKNOWN,
    Package,
    closure,
    is_allowed,
    license_of,
    packages,
    pinned,
    render,
    requirements,
)


def listed() -> list[Package]:
    """The rows of the page."""
    section = PAGE.read_text(encoding="utf-8").split("## Packages\n")[1].split("\n## ")[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in section.strip().splitlines()[2:]]
    return [Package(name, version, text, tuple(groups.split(", "))) for name, version, text, groups in rows]


def test_the_page_has_the_packages_of_the_constraints() -> None:
    assert {row.name: row.version for row in listed()} == pinned(), "run `make licenses`"
    assert render(listed()) == PAGE.read_text(encoding="utf-8"), "run `make licenses`"


def test_the_page_says_what_the_installed_packages_say() -> None:
    """Of those that have the version of the page. Which package needs which, also depends on their versions."""
    page = {(row.name, row.version): row for row in listed()}
    installed = packages()
    same = [(page[row.name, row.version], row) for row in installed if (row.name, row.version) in page]
    for row, here in same:
        assert row.license == here.license, "run `make licenses`"
    if len(same) == len(installed):
        for row, here in same:
            assert (row.needed_by == ("core",)) == (here.needed_by == ("core",)), row.name
            assert here.needed_by == (DEVELOPMENT,) or set(here.needed_by) <= set(row.needed_by), row.name


def test_every_package_may_be_used() -> None:
    assert [row for row in listed() if not is_allowed(row.license)] == []
    assert [row for row in packages() if not is_allowed(row.license)] == []


def test_the_core_is_found() -> None:
    names = closure(requirements()["core"])
    assert {"torch", "numpy", "pillow", "markupsafe"} <= set(names)  # markupsafe: through jinja2
    assert not {"pytest", "frcnn", "onnx"} & set(names)
    assert "starlette" in closure(requirements()["serve"])  # through the extra annotate


@pytest.mark.parametrize(
    ("license", "allowed"),
    [
        ("MIT", True),
        ("LGPL-2.1-or-later", True),
        ("MPL-2.0 AND MIT", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("MIT AND GPL-2.0-only", False),
        ("MIT OR GPL-2.0-only", True),
        ("BSD-3-Clause AND (MIT OR GPL-2.0-only)", True),
        ("(BSD-3-Clause AND GPL-2.0-only) OR AGPL-3.0-only", False),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        (UNKNOWN, False),
    ],
)
def test_the_gpl_needs_an_alternative(license: str, allowed: bool) -> None:
    assert is_allowed(license) == allowed


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("License: 3-Clause BSD License", "BSD-3-Clause"),
        ("License: Permission is hereby granted\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
        ("License: UNKNOWN", UNKNOWN),
        ("Summary: none", UNKNOWN),
        (
            "License: see below\nClassifier: License :: Public Domain\nClassifier: License :: OSI Approved :: GPL",
            UNKNOWN,
        ),
    ],
)
def test_licenses_are_read_from_the_metadata(tmp_path: Path, metadata: str, expected: str) -> None:
    folder = tmp_path / "some-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: some\nVersion: 1\n{metadata}\n")
    assert license_of(Distribution.at(folder)) == expected


def test_licenses_are_stated_only_for_packages_that_do_not_state_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(STATED) <= {row.name for row in listed()}
    names = set(STATED)
    monkeypatch.setattr("licenses.STATED", {})
    assert {row.license for row in packages() if row.name in names} == {UNKNOWN}
