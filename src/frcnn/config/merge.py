"""Merging settings: defaults < recipe "default" < base-model preset < named recipe < config file < `--set`; later ones
win. The recipe "default" is what holds where a base model does not say otherwise; a recipe that is named wins over it.
"""

import ast
import difflib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from frcnn.config.settings import Config
from frcnn.config.tutorial import NAMES

DEFAULT_BASE_MODEL = "efficientnet_lite0"
DEFAULT_RECIPE = "default"
_FPN = "-fpn"
_YAML = (".yaml", ".yml")


def merge(
    *,
    base_model: str | None = None,
    recipe: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """The settings of a training, checked.

    Args:
        base_model: name of a preset, or path of a YAML file like one; None takes the recipe's, else efficientnet_lite0.
        recipe: preset name; None takes "default".
        file: YAML, e.g. the config.yaml of a RUN.
        overrides: "key=value", our dotted names or the tutorial's; values are YAML, and a list may be
            written as in the tutorial: "[0.001]*10+[0.0001]*10".

    Raises:
        ValueError: an unknown preset or key (with the nearest name), or a value out of range.
        FileNotFoundError: no such config file.
    """
    recipe = recipe or DEFAULT_RECIPE
    sources = [(f"recipe '{recipe}'", _preset("recipes", "recipe", recipe))] if recipe != DEFAULT_RECIPE else []
    sources += [(str(file), _read_yaml_file(file))] if file is not None else []
    sources += [(f"'{override}'", _nest(*_parse(override))) for override in overrides]
    own = _own_base_model(Path(base_model)) if base_model is not None and base_model.endswith(_YAML) else None
    name = base_model if own is None else _name_in(own)
    given: dict[str, Any] = {}
    for source, values in sources:
        named = _name_in(values)
        if named is not None and name is not None and named != name:
            raise ValueError(f"{source} is for base model '{named}', not '{name}'; name one of the two")
        name = name or named
        given = _combine(given, values)

    name = name or DEFAULT_BASE_MODEL
    # A name that is no preset is a base model of the user's own, if the settings say what it is.
    if own is None and name not in base_model_names() and "architecture" in (given.get("base_model") or {}):
        own = {}
    lower = _preset("recipes", "recipe", DEFAULT_RECIPE) if recipe == DEFAULT_RECIPE else {}
    lower = _combine(lower, own if own is not None else base_model_preset(name))
    return from_dict(_combine(lower, given))


def base_model_preset(name: str) -> dict[str, Any]:
    """The settings of a base model; NAME-fpn is the pyramid form of NAME: the section `fpn` of its file.

    Raises:
        ValueError: there is no such base model (with the nearest name).
    """
    if name not in base_model_names():
        raise ValueError(
            f"unknown base model '{name}'. {nearest(name, base_model_names())} A file of your own is named by its "
            f"path, with {' or '.join(_YAML)} at the end."
        )
    plain = _preset("base_models", "base model", name.removesuffix(_FPN))
    pyramid = plain.pop("fpn", None)
    if not name.endswith(_FPN):
        return plain
    shared = _preset(".", "base model", "fpn")
    return _combine(_combine(plain, shared), {"base_model": {**pyramid, "name": name}})


def _own_base_model(path: Path) -> dict[str, Any]:
    """A base model in the user's file."""
    values = _read_yaml_file(path)
    _reject_unknown(values, Config, "")
    base = dict(values.get("base_model") or {})
    if isinstance(base.get("weights"), str) and base["weights"] not in ("none", "coco"):
        base["weights"] = str(path.parent / base["weights"])  # beside the file, wherever the command is run
    for key in ("architecture", "last_conv_node"):
        if key not in base:
            raise ValueError(f"{path}: base_model.{key} is missing; `frcnn nodes ARCHITECTURE` helps to find it")
    return _combine(values, {"base_model": {"name": path.stem, **base}})


def from_dict(values: Mapping[str, Any]) -> Config:
    """Settings out of plain nested values.

    Raises:
        ValueError: naming the key, the value and the rule.
    """
    _reject_unknown(values, Config, "")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(problem) for problem in error.errors())) from None


def dump(config: Config) -> dict[str, Any]:
    """Settings as plain nested values."""
    return config.model_dump(mode="json")


def dump_yaml(config: Config) -> str:
    """Settings as YAML, each with a comment that says what it does; `merge(file=...)` takes it back."""
    return "\n".join(_yaml_lines(config, indent=0)) + "\n"


def base_model_names() -> list[str]:
    """Those that can be named: the presets, and their pyramid forms."""
    names = _preset_names("base_models")
    return sorted(names + [name + _FPN for name in names if "fpn" in _preset("base_models", "base model", name)])


def recipe_names() -> list[str]:
    return _preset_names("recipes")


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint for a message: the most similar name, or all of them, or the nearest."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    if len(names) <= 30:
        return f"Known: {', '.join(names)}."
    return f"The nearest are {', '.join(difflib.get_close_matches(name, names, n=3, cutoff=0))}."


def _nearest_setting(name: str) -> str:
    """The setting most similar by name, else the first whose description has all words of the name's end."""
    fields = dict(_leaf_fields(Config, ""))
    close = difflib.get_close_matches(name, [*fields, *NAMES], n=1, cutoff=0.75)
    words = name.rpartition(".")[2].lower().split("_")
    described = [key for key, text in fields.items() if all(word in f"{key} {text}".lower() for word in words)]
    ends = difflib.get_close_matches(name.rpartition(".")[2], [key.rpartition(".")[2] for key in fields], n=1)
    last = [key for key in fields if key.rpartition(".")[2] in ends]
    for found in (close, described, last):
        if found:
            return f"Did you mean '{found[0]}'?"
    return "`frcnn config` lists them all."


def _preset_names(folder: str) -> list[str]:
    files = resources.files("frcnn") / "presets" / folder
    return sorted(f.name.removesuffix(".yaml") for f in files.iterdir() if f.name.endswith(".yaml"))


def _preset(folder: str, kind: str, name: str) -> dict[str, Any]:
    names = _preset_names(folder)
    if name not in names:
        raise ValueError(f"unknown {kind} '{name}'. {nearest(name, names)}")
    text = (resources.files("frcnn") / "presets" / folder / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text) or {})


def _read_yaml_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such config file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold settings by name (`frcnn config` prints an example)")
    return values


def _name_in(values: Mapping[str, Any]) -> str | None:
    part = values.get("base_model")
    return part.get("name") if isinstance(part, dict) else None


def _combine(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for key, value in high.items():
        old = both.get(key)
        both[key] = _combine(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def _parse(override: str) -> tuple[str, Any]:
    name, separator, text = override.partition("=")
    name = name.strip().removeprefix("__C.")
    if not separator:
        raise ValueError(f"'{override}': a setting is written KEY=VALUE, e.g. train.epochs=10")
    value = _parse_value(name, text.strip())
    if name in NAMES:
        renamed = NAMES[name]
        try:
            return renamed.key, renamed.convert(value)
        except (TypeError, AttributeError):
            raise ValueError(f"{name}: {value!r} is not a value that this setting takes") from None
    if name not in dict(_leaf_fields(Config, "")):
        raise ValueError(f"unknown setting '{name}'. {_nearest_setting(name)}")
    return name, value


def _parse_value(name: str, text: str) -> Any:
    if text.startswith("[") and ("*" in text or "]+" in text.replace(" ", "")):
        try:
            return _list_arithmetic(ast.parse(text, mode="eval").body)
        except (SyntaxError, TypeError, ValueError):
            raise ValueError(f"{name}: cannot read {text!r}; write a list, e.g. [0.01]*10+[0.001]*5") from None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{name}: cannot read the value {text!r}") from None
    if isinstance(value, str) and value.startswith("(") and value.endswith(")"):  # a tuple, as in the tutorial
        return _parse_value(name, f"[{value[1:-1]}]")
    return value


def _list_arithmetic(node: ast.expr) -> list[float]:
    """A list of numbers, a list times a count, or the sum of such lists."""
    match node:
        case ast.List(elts=items):
            return [float(ast.literal_eval(item)) for item in items]
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(count))) if count <= 100_000:
            return _list_arithmetic(left) * count
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _list_arithmetic(left) + _list_arithmetic(right)
    raise ValueError


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _leaf_fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """The dotted name of every setting, and its description."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaf_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or ""


def _reject_unknown(values: Mapping[str, Any], model: type[BaseModel], prefix: str) -> None:
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is None:
            raise ValueError(f"unknown setting '{prefix}{name}'. {_nearest_setting(f'{prefix}{name}')}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            if not isinstance(value, dict):
                example, _ = next(_leaf_fields(field.annotation, f"{prefix}{name}."))
                raise ValueError(f"setting '{prefix}{name}' is a group; set one of its members, e.g. '{example}'")
            _reject_unknown(value, field.annotation, f"{prefix}{name}.")


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    rule = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return str(rule)
    return f"setting '{where}' = {problem['input']!r}: {rule[0].lower()}{rule[1:]}"


def _yaml_lines(settings: BaseModel, indent: int) -> Iterator[str]:
    pad = "  " * indent
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            summary = textwrap.shorten((type(value).__doc__ or "").strip(), 100)
            yield f"{pad}{name}:  # {summary}"
            yield from _yaml_lines(value, indent + 1)
        else:
            plain = list(value) if isinstance(value, tuple) else value
            text = yaml.safe_dump(plain, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
            yield f"{pad}{name}: {text}".ljust(48) + f"  # {field.description}"
