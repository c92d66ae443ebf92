"""The config files of CNTK's tutorial, e.g. `FasterRCNN_config.py`, read as data: no code in them runs."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frcnn.config.cntk import NAMES

_ROOTS = ("__C", "cfg")
"""The tutorial's names of the configuration."""
_NODES: dict[str, dict[str, str | None]] = {
    "alexnet": {"features": None, "conv5.y": "features.11", "pool3": "features.12", "h2_d": "classifier.5"},
    "vgg16": {
        "data": None,
        "pool2": "features.10",
        "relu5_3": "features.29",
        "pool5": "features.30",
        "drop7": "classifier.5",
    },
}
"""Nodes of CNTK's models -> layers of torchvision's; the input has no name there. pool2 is in the tutorial only where
training starts: the first layer with weights from there on is features.10."""
_OF_THE_WEIGHTS = {
    "MODEL.BASE_MODEL_FILE": "frcnn cannot read CNTK's models; it takes torchvision's weights",
    "MODEL.IMG_PAD_COLOR": "the mean belongs to the weights, and torchvision's have another one",
}
"""Parameters that are not used, and why."""
_NORMALIZE, _STATISTICS = "BBOX_NORMALIZE_TARGETS", ("BBOX_NORMALIZE_MEANS", "BBOX_NORMALIZE_STDS")


class ConfigFiles(NamedTuple):
    """What the config files say."""

    settings: dict[str, Any]
    """By the tutorial's names; the values of `make_config(recipe="tutorial")` are those of all others."""
    unused: list[str]
    """A line on each parameter that frcnn does not use."""


def read_config_files(files: Sequence[Path]) -> ConfigFiles:
    """The parameters that the config files set: lines `__C.NAME = VALUE`. Of a parameter that several files set, the
    last one counts.

    Args:
        files: as the tutorial's `get_configuration` merges them: of the detector, the base model and the data set.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is not Python, or a parameter has a value that only running the file would tell.
    """
    values: dict[str, Any] = {}
    unused: dict[str, str] = {}
    for file in files:
        for statement in _parsed(file).body:
            match statement:
                case ast.Assign(targets=[target], value=node) if (name := _name(target)) is not None:
                    if name in NAMES:
                        values[name] = _value(name, node, values, file)
                    elif name and not any(known.startswith(f"{name}.") for known in NAMES):  # a group is edict()
                        unused[name] = f"{name} = {ast.unparse(node)}: frcnn has no such setting"
                case ast.FunctionDef() | ast.ClassDef():
                    pass
                case _:
                    _require_plain(statement, file)
    without_effect = _without_effect(values)
    try:
        ours = _with_our_nodes({name: value for name, value in values.items() if name not in without_effect})
    except ValueError as error:
        raise ValueError(f"{', '.join(map(str, files))}: {error}") from None
    unused |= {name: f"{name} = {values[name]!r}: {why}" for name, why in without_effect.items()}
    return ConfigFiles(ours, list(unused.values()))


def _parsed(file: Path) -> ast.Module:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such config file")
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last ones: brackets in brackets
        raise ValueError(f"{file}: not a config file of CNTK's tutorial, which is Python ({error})") from None


def _name(node: ast.expr) -> str | None:
    """The parameter that an expression names, e.g. "CNTK.FAST_MODE" for `__C.CNTK.FAST_MODE`, also for
    `cfg["CNTK"].FAST_MODE`; "": the configuration itself; None: something else."""
    match node:
        case ast.Name(id=name):
            return "" if name in _ROOTS else None
        case ast.Attribute(value=group, attr=name) | ast.Subscript(value=group, slice=ast.Constant(value=str(name))):
            outer = _name(group)
            return None if outer is None else f"{outer}.{name}".removeprefix(".")
    return None


def _value(name: str, node: ast.expr, values: Mapping[str, Any], file: Path) -> Any:
    """A literal, an earlier parameter, or the text of `[0.001] * 10 + [0.0001] * 10`, which settings understand."""
    other = _name(node)
    if other is not None and other in values:
        return values[other]
    text = ast.unparse(node)
    if isinstance(node, ast.BinOp) and text.startswith("["):
        return text
    try:
        return ast.literal_eval(node)
    except (ValueError, RecursionError):
        raise ValueError(
            f"{file}, line {node.lineno}: {name} = {text}: frcnn does not run the file, so a value must be a number, a "
            f"text or a list; write it so"
        ) from None


def _require_plain(statement: ast.stmt, file: Path) -> None:
    """Refuse a parameter that is set under a condition, in a loop, or by `+=`."""
    for node in ast.walk(statement):
        if not isinstance(node, ast.expr) or not isinstance(getattr(node, "ctx", None), ast.Store):
            continue
        if (name := _name(node)) in NAMES:
            raise ValueError(
                f"{file}, line {node.lineno}: {name} is not set by a plain line; frcnn does not run the file, so write "
                f"`__C.{name} = VALUE` on a line of its own"
            )


def _with_our_nodes(values: Mapping[str, Any]) -> dict[str, Any]:
    """With our names of nodes."""
    base_model = values.get("MODEL.BASE_MODEL")
    nodes = _NODES.get(str(base_model).lower(), {})
    ours = dict(values)
    for name, node in ours.items():
        if not name.endswith("_NODE_NAME"):
            continue
        if not isinstance(node, str) or node not in nodes:
            known = f"the nodes {', '.join(nodes)} of {base_model}" if nodes else f"the nodes of {' and '.join(_NODES)}"
            raise ValueError(
                f"{name} = {node!r}: frcnn knows {known}; remove this line, and choose a layer in {NAMES[name].key} "
                f"(`frcnn layers NAME` lists those of a base model)"
            )
        ours[name] = nodes[node]
    return ours


def _without_effect(values: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that have no effect, and why."""
    reasons = {name: why for name, why in _OF_THE_WEIGHTS.items() if name in values}
    if not values.get(_NORMALIZE, True):  # wherever its line is
        reasons |= {name: f"{_NORMALIZE} is {values[_NORMALIZE]}" for name in _STATISTICS if name in values}
    return reasons
