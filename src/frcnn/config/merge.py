"""Merging settings: defaults < base model < recipe < config file < named settings; later ones win."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from frcnn.config import presets
from frcnn.config.cntk import NAMES, ours
from frcnn.config.dump import dump, flat
from frcnn.config.presets import combine
from frcnn.config.schema import Config, Settings
from frcnn.messages import short
from frcnn.yaml_text import load_yaml, require_unique_names

AnySettings = TypeVar("AnySettings", bound=Settings)

DEFAULT_BASE_MODEL = "efficientnet_lite0"
_SHOWN = 20  # problems in one error
_OTHER_LIBRARIES = {
    "backbone": ["base_model.name"],
    "min_size": ["detector.image.shorter_side"],
    "imgsz": ["detector.image.shorter_side"],
    "image_size": ["detector.image.shorter_side"],
    "img_size": ["detector.image.shorter_side"],
    "input_size": ["detector.image.shorter_side"],
    "max_size": ["detector.image.longer_side"],
    "image_mean": ["base_model.mean"],
    "image_std": ["base_model.std"],
    "fg_iou_thresh": ["train.rpn.positive_iou", "train.roi.positive_iou"],
    "bg_iou_thresh": ["train.rpn.negative_iou", "train.roi.negative_iou_high"],
    "rpn_fg_iou_thresh": ["train.rpn.positive_iou"],
    "rpn_bg_iou_thresh": ["train.rpn.negative_iou"],
    "box_fg_iou_thresh": ["train.roi.positive_iou"],
    "box_bg_iou_thresh": ["train.roi.negative_iou_high"],
    "box_nms_thresh": ["detector.results.nms_threshold"],
    "box_score_thresh": ["detector.results.score_threshold"],
    "box_detections_per_img": ["detector.results.max_detections"],
    "max_det": ["detector.results.max_detections"],
    "conf": ["detector.results.score_threshold"],
    "iou": ["detector.results.nms_threshold"],
    "batch": ["train.batch_size"],
    "ims_per_batch": ["train.batch_size"],
    "lr0": ["train.lr"],
    "base_lr": ["train.lr"],
    "amp": ["train.precision"],
    "max_iter": ["train.epochs"],
    "pretrained": ["base_model.weights"],
    "freeze": ["base_model.freeze_before"],
    "trainable_backbone_layers": ["base_model.freeze_before"],
}
"""Names of torchvision, ultralytics and detectron2 -> our settings, for messages."""
OF_THE_DATA = ("classes", "names", "nc", "num_classes")

Named = Mapping[str, Any] | Sequence[str]
"""Settings by name, ours or the tutorial's: {"train.lr": 0.005}, or as on the command line: ["train.lr=0.005"]."""


def make_config(
    *,
    base_model: str | None = None,
    recipe: str | None = None,
    file: Path | None = None,
    overrides: Named = (),
) -> Config:
    """All settings, checked: defaults < base model < recipe < config file < named settings; later ones win.

    Args:
        base_model: a name, e.g. "resnet50-fpn", or the path of a YAML file of your own; None: the one that another
            source names, else efficientnet_lite0.
        recipe: a name, e.g. "tutorial".
        file: YAML, e.g. the config.yaml of a run directory.
        overrides: the named settings.

    Raises:
        ValueError: an unknown name (with the nearest one), a value out of range, or a named setting without effect.
        FileNotFoundError: no such config file.
    """
    own_file = base_model is not None and base_model.endswith((".yaml", ".yml"))
    preset = _own_base_model(Path(str(base_model))) if own_file else None
    chosen = preset or ({"base_model": {"name": base_model}} if base_model is not None else {})
    low = presets.recipe(recipe) if recipe is not None else {}
    filed = _read_yaml(file) if file is not None else {}
    named = _nested(overrides)
    sources = {"base_model": chosen, f"recipe '{recipe}'": low, str(file): filed, "the settings": named}
    names = {
        _base_model(values).get("name"): source for source, values in sources.items() if "name" in _base_model(values)
    }
    if len(names) > 1:
        listed = ", ".join(f"'{name}' ({source})" for name, source in names.items())
        raise ValueError(f"several base models are named: {listed}; choose one")
    name = next(iter(names), DEFAULT_BASE_MODEL)
    high = combine(filed, named)
    if preset is None and (name in presets.base_model_names() or "architecture" not in _base_model(high)):
        preset = presets.base_model_preset(name)  # else a base model of the user's own, which the settings describe
    base = combine(preset or {}, low)
    try:
        config = from_dict(Config, combine(base, high))
    except ValueError:
        if own_file:
            _require_valid(Path(str(base_model)), chosen)
        if file is not None:
            _require_valid(file, combine(base, filed))
        raise
    _refuse_unused(config, overrides)
    return config


def _require_valid(file: Path, values: Mapping[str, Any]) -> None:
    """Raise an error that names the file, if its settings are invalid without the named ones too."""
    try:
        from_dict(Config, values)
    except ValueError as error:
        raise ValueError("\n".join(f"{file}: {line}" for line in str(error).split("\n"))) from None


def with_settings(config: Config, settings: Named) -> Config:
    """The same settings, but for those that are named.

    Raises:
        ValueError: see `make_config`.
    """
    return from_dict(Config, combine(dump(config), _nested(settings)))


def with_base_model(config: Config, name: str, named: Collection[str] = ()) -> Config:
    """The settings with another base model. Settings in which the two presets differ take the value of the new one.

    Args:
        named: settings that keep their value.
    """
    before, after = (flat(dump(make_config(base_model=each))) for each in (config.base_model.name, name))
    changed = {key: value for key, value in after.items() if value != before[key] and key not in named}
    return with_settings(config, changed)


def with_arguments(settings: Mapping[str, Any] | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Named settings, and the arguments of a function that stand for settings. None: not given."""
    return {**(settings or {}), **{name: value for name, value in arguments.items() if value is not None}}


def set_names(file: Path | None, overrides: Named, base_model: str | None = None) -> set[str]:
    """The dotted names of the settings that a user chose; arguments as for `make_config`."""
    chosen: dict[str, Any] = {}
    if base_model is not None:
        own_file = base_model.endswith((".yaml", ".yml"))
        chosen = _own_base_model(Path(base_model)) if own_file else {"base_model": {"name": base_model}}
    return set(flat(combine(chosen, _read_yaml(file) if file is not None else {}, _nested(overrides))))


def _refuse_unused(config: Config, overrides: Named) -> None:
    """Refuse named settings that have no effect. The tutorial's names are exempt, since its configuration has
    all of its parameters; so are files, since `frcnn config` prints all settings.

    Raises:
        ValueError: naming each such setting, and what it needs.
    """
    values = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    problems = [
        f"setting '{name}' = {values[name]!r} has no effect: it needs {need}"
        for name, need in config.unused().items()
        if name in values
    ]
    if problems:
        raise ValueError("\n".join(problems))


def from_dict(kind: type[AnySettings], values: Any) -> AnySettings:
    """Settings of this kind, e.g. Config, out of plain nested values.

    Raises:
        ValueError: names each key that is wrong, its value and the rule.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise ValueError("\n".join([*map(_explain, problems[:_SHOWN]), *more])) from None


def _own_base_model(path: Path) -> dict[str, Any]:
    """A base model in the user's file."""
    values = combine({"base_model": {"name": path.stem}}, _read_yaml(path))
    weights = _base_model(values).get("weights")
    if isinstance(weights, str) and weights not in ("none", "coco"):  # beside the file, wherever the command is run
        values = combine(values, {"base_model": {"weights": str(path.parent / weights)}})
    return values


def _base_model(values: Mapping[str, Any]) -> dict[str, Any]:
    part = values.get("base_model")
    return part if isinstance(part, dict) else {}


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such config file")
    try:
        text = path.read_text(encoding="utf-8")
        values = load_yaml(text)
        require_unique_names(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold settings by name (`frcnn config` prints an example)")
    return values


def _nested(overrides: Named) -> dict[str, Any]:
    """Named settings, under our names, as nested values."""
    layers = []
    named = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    for name, value in named.items():
        name = name.removeprefix("__C.")
        for key, setting in (ours(name, value) if name in NAMES else {name: value}).items():
            for part in reversed(key.split(".")):
                setting = {part: setting}
            layers.append(setting)
    return combine(*layers)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Values by name, in order, from "KEY=VALUE" strings; of several with the same name, the last one."""
    named: dict[str, Any] = {}
    for name, value in map(_parse, overrides):
        named.pop(name, None)
        named[name] = value
    return named


def _parse(override: str) -> tuple[str, Any]:
    """The name and the value of a setting on the command line: "KEY=VALUE", the value in YAML, or as the tutorial
    writes lists."""
    name, separator, text = (part.strip() for part in override.partition("="))
    if not separator:
        raise ValueError(f"'{override}': a setting is written KEY=VALUE, e.g. train.epochs=10")
    if text.startswith("(") and text.endswith(")"):  # a tuple
        text = f"[{text[1:-1]}]"
    try:
        return name, load_yaml(text)
    except yaml.YAMLError:  # e.g. "[0.001]*10+[0.0001]*10"
        return name, text


def _explain(problem: Any) -> str:
    """The message for a pydantic error."""
    where, value = ".".join(str(part) for part in problem["loc"]), problem["input"]
    rule = problem["msg"].removeprefix("Value error, ")
    match problem["type"]:
        case "value_error" if not isinstance(value, str):  # of a group: the message names it
            return str(rule)
        case "missing":
            hint = "; `frcnn layers ARCHITECTURE` helps to find it" if where.startswith("base_model.") else ""
            return f"setting '{where}' is missing{hint}"
        case "extra_forbidden":
            while isinstance(value, dict) and value:
                name, value = next(iter(value.items()))
                where += f".{name}"
            return f"unknown setting '{where}'. {hint_for(where)}"
        case "model_type":
            example = next(key for key, _ in leaf_fields(Config) if key.startswith(f"{where}."))
            return f"setting '{where}' is a group; set one of its members, e.g. '{example}'"
    return f"setting '{where}' = {short(value)}: {rule[0].lower()}{rule[1:]}"


def hint_for(name: str) -> str:
    """What to use instead of an unknown setting, for a message."""
    if name.rpartition(".")[2] in OF_THE_DATA:
        return "The classes are those of the data: frcnn reads their names from it."
    similar = similar_settings(name)
    return f"Did you mean {' or '.join(map(repr, similar))}?" if similar else "`frcnn config` lists all settings."


def similar_settings(name: str) -> list[str]:
    """The settings that an unknown name may mean. The first rule that finds some decides:

    1. one setting has the same last part;
    2. another library has a setting of this name;
    3. a setting has a similar name;
    4. another library has a setting with this last part;
    5. a setting's description has all words of the last part;
    6. a setting has a similar last part.
    """
    fields = dict(leaf_fields(Config))
    last = name.rpartition(".")[2].lower()
    same = [key for key in fields if key.rpartition(".")[2] == last]
    close = difflib.get_close_matches(name, [*fields, *NAMES], n=1, cutoff=0.75)
    words = set(last.split("_"))
    described = [key for key, text in fields.items() if words <= set(re.findall(r"[a-z0-9]+", f"{key} {text}".lower()))]
    ends = difflib.get_close_matches(last, [key.rpartition(".")[2] for key in fields], n=1)
    alike = [key for key in fields if key.rpartition(".")[2] in ends]
    return (
        (same if len(same) == 1 else [])
        or _OTHER_LIBRARIES.get(name)
        or close
        or _OTHER_LIBRARIES.get(last)
        or described[:1]
        or alike[:1]
    )


def leaf_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name of every setting, and its description."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaf_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or ""
