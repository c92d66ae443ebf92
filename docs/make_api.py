"""Write docs/api.md from the docstrings of the public names.

python docs/make_api.py
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cached_property
from pathlib import Path
from textwrap import dedent
from typing import Any

import frcnn
from frcnn.evaluation.errors import DetectionError, ErrorReport
from frcnn.evaluation.intervals import Interval
from frcnn.evaluation.metrics import ClassMetrics
from frcnn.evaluation.thresholds import Counts, Curve
from frcnn.export.export import Export, export
from frcnn.inference.results import Detection
from frcnn.planning.choices import Choice
from frcnn.planning.fingerprint import ClassFingerprint, Fingerprint
from frcnn.tools.check.check import CheckReport
from frcnn.tools.convert import Conversion
from frcnn.training.crossval import Estimate, FoldResult
from frcnn.training.reports import InitialWeights, ProposalReport, StartReport, StepReport, ValidationReport
from frcnn.training.state import Best, TrainingState

FILE = Path(__file__).parent / "api.md"
PASSED: tuple[Any, ...] = (
    *(export, Export, CheckReport, Conversion, ClassMetrics, Detection, FoldResult, Estimate),
    *(Curve, Counts, Interval, ErrorReport, DetectionError),
    *(Fingerprint, ClassFingerprint, Choice),
    *(TrainingState, Best, StartReport, InitialWeights, StepReport, ProposalReport, ValidationReport),
)
"""What the public names return or pass to callbacks, and the function behind `Detector.export`."""


def render() -> str:
    """The text of docs/api.md."""
    parts = [
        "# Python API",
        "Written by `python docs/make_api.py` from the docstrings.",
        "<!-- not run: takes minutes -->\n```python",
        _example(),
        "```",
    ]
    for name in frcnn.__all__:
        parts += _of(f"frcnn.{name}", getattr(frcnn, name), level=2)
    parts.append("The types that they return, or that callbacks get:")
    for value in PASSED:
        parts += _of(f"{value.__module__}.{value.__qualname__}", value, level=2)
    return (
        "\n\n".join(filter(None, parts)).replace("```python\n\n", "```python\n").replace("\n\n```\n", "\n```\n") + "\n"
    )


def _example() -> str:
    return (frcnn.__doc__ or "").partition("\n\n")[2].strip()


def _of(name: str, value: Any, *, level: int) -> Iterator[str]:
    """Heading, signature and docstring of a function or class; of a class also its fields and methods."""
    yield f"{'#' * level} {name}"
    if not inspect.isclass(value) or ("__init__" in vars(value) and not is_dataclass(value)):
        yield f"`{name.rpartition('.')[2]}{_signature(value)}`"
    yield _markdown(inspect.getdoc(value) or "")
    if not inspect.isclass(value):
        return
    docs = _field_docs(value)
    yield "\n".join(f"* `{name}`: {docs.get(name, '')}".rstrip(": ") for name in inspect.get_annotations(value))
    for key, member in vars(value).items():
        if key.startswith("_"):
            continue
        if isinstance(member, property | cached_property):
            yield f"{'#' * (level + 1)} {name}.{key}"
            yield _markdown(inspect.getdoc(member) or "")
        elif (inspect.isfunction(member) or isinstance(member, classmethod)) and member.__doc__:  # not inherited
            yield from _of(f"{name}.{key}", getattr(value, key), level=level + 1)


def _signature(value: Any) -> str:
    """Without `self`, the quotes of annotations and the addresses of functions."""
    text = str(inspect.signature(value))
    text = text.replace("pathlib._local.", "pathlib.")  # Python 3.13
    text = re.sub(r"<function .*? at 0x\w+>", "...", re.sub(r"^\(self(, )?", "(", text))
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).removesuffix(" -> None")


def _field_docs(owner: type) -> dict[str, str]:
    """The string after each field, on one line."""
    found = re.findall(r'^    (\w+): [^\n]+\n    """(.*?)"""', inspect.getsource(owner), re.S | re.M)
    return {name: " ".join(text.split()) for name, text in found}


def _markdown(docstring: str) -> str:
    """Google-style sections as bold words, arguments as lists, examples as code."""
    lines: list[str] = []
    for line in dedent(docstring).splitlines():
        section = re.fullmatch(r"(Args|Attributes|Returns|Raises|Source|Contract|Example):", line)
        argument = re.fullmatch(r"    (\w+(?:, \w+)*): (.*)", line)
        if section:
            lines += ["", f"**{section[1]}**", ""]
        elif argument:
            lines.append(f"* `{argument[1]}`: {argument[2]}")
        elif line.startswith(("    >>> ", "    ... ")):
            lines.append(line.replace(line[4:8], "", 1))  # indented: code
        else:
            lines.append(re.sub("^ {4,}", "  ", line) if lines and lines[-1].startswith(("* ", "  ")) else line.strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
