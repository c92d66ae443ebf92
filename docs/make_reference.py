"""Write docs/cli.md from the parser of the commands, and docs/settings.md from the schema of the settings.

python docs/make_reference.py
"""

import argparse
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from frcnn.cli import make_parser
from frcnn.config.schema import Config

FOLDER = Path(__file__).parent
NAMES = {"integer": "whole number", "number": "number", "string": "text"}


def render_commands() -> str:
    """The text of docs/cli.md."""
    parser = make_parser()
    statuses = (parser.epilog or "").partition("exit status:\n")[2]
    parts = [
        "# Commands",
        "Written by `python docs/make_reference.py` from the program's help. With `--help`, a command prints its part.",
        *(part for name, command in _subcommands(parser) for part in _command(f"frcnn {name}", command, level=2)),
        "## Exit status",
        f"```text\n{re.sub('^  ', '', statuses, flags=re.MULTILINE).strip()}\n```",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:  # argparse has no public list
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _command(name: str, parser: argparse.ArgumentParser, *, level: int) -> Iterator[str]:
    """Heading, description, usage, arguments and example of a command, and of the commands below it."""
    below = list(_subcommands(parser))
    yield f"{'#' * level} {name}"
    yield parser.description or ""
    places = [_place(action) for action in parser._actions if not action.option_strings]
    yield f"Usage: `{' '.join([name, *(['[options]'] if not below else []), *places])}`"
    if not below:
        positional, optional, *others = parser._action_groups
        yield _wrapped([*_items(parser, positional), *_items(parser, optional)])
        for group in others:
            yield f"For {group.title}:"
            yield _wrapped(_items(parser, group))
    if parser.epilog:
        example, then, rest = parser.epilog.removeprefix("example: ").partition(", then ")
        yield f"Example: `{example}`{then}{rest}"
    for key, command in below:
        yield from _command(f"{name} {key}", command, level=level + 1)


def _items(parser: argparse.ArgumentParser, group: Any) -> list[str]:
    """The arguments of a group as items of a list."""
    formatter = parser._get_formatter()
    return [
        f"* `{_name(action)}`: {_text(formatter._expand_help(action))}"
        for action in group._group_actions
        if action.dest != "help"
    ]


def _place(action: argparse.Action) -> str:
    """A positional argument in the usage."""
    name = str(action.metavar or action.dest)
    if action.nargs in ("+", "*"):
        name += "..."
    return f"[{name}]" if action.nargs in ("?", "*") else name


def _name(action: argparse.Action) -> str:
    """An argument, with what follows it."""
    if not action.option_strings:
        return _place(action)
    value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else str(action.metavar or "")
    if action.nargs == "+":
        value += "..."
    option = ", ".join(action.option_strings)
    return f"{option} [{value}]" if action.nargs == "?" else f"{option} {value}".strip()


def _wrapped(items: list[str]) -> str:
    return "\n".join(textwrap.fill(item, 120, subsequent_indent="  ", break_on_hyphens=False) for item in items)


def _text(help_text: str) -> str:
    """Help as Markdown: the same characters, apart from what is in backticks."""
    parts = help_text.split("`")
    return "`".join(part if index % 2 else re.sub(r"([*<\\])", r"\\\1", part) for index, part in enumerate(parts))


def render_settings() -> str:
    """The text of docs/settings.md."""
    parts = [
        "# Settings",
        "Written by `python docs/make_reference.py` from `src/frcnn/config/schema.py`.",
        "`--set NAME=VALUE` changes a setting, e.g. `frcnn train my_photos --set train.flip=false`. `--config FILE`\n"
        "reads settings from a YAML file. A [base model](base-models.md), a [plan](training.md#a-plan-for-your-data)\n"
        "and a recipe can set other values than these defaults. `frcnn config` prints the values of a base model or a\n"
        "recipe, and `frcnn plan` prints a plan. [parameters.md](parameters.md) has the names that CNTK's tutorial\n"
        "gives to these settings.",
        *_groups(Config, Config.model_json_schema()["$defs"], ""),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _groups(group: type[BaseModel], schemas: dict[str, Any], prefix: str) -> Iterator[str]:
    """A list of the settings of each group, outer groups first."""
    below = {name: field.annotation for name, field in group.model_fields.items() if _is_group(field.annotation)}
    items = [
        f"* `{prefix}{name}`: {_text(field.description or '')}. {_default(field)}. "
        f"Values: {_values(schemas[group.__name__]['properties'][name])}"
        for name, field in group.model_fields.items()
        if name not in below
    ]
    if prefix:
        yield f"## {prefix[:-1]}"
        yield " ".join((group.__doc__ or "").split())
    yield _wrapped(items)
    for name, inner in below.items():
        yield from _groups(inner, schemas, f"{prefix}{name}.")


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _default(field: Any) -> str:
    if field.is_required():
        return "Set by the base model"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    return f"Default: `{text}`"


def _values(schema: dict[str, Any]) -> str:
    """What a setting may be, e.g. "number, above 0 and at most 1"."""
    if "anyOf" in schema:
        return ", or ".join(_values(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema["type"]:
        case "null" | "boolean" as kind:
            return "`null`" if kind == "null" else "`true`, `false`"
        case "array":
            return _list(schema)
        case kind:
            return ", ".join(filter(None, [NAMES[kind], _range(schema)]))


def _list(schema: dict[str, Any]) -> str:
    items = schema["prefixItems"][0] if "prefixItems" in schema else schema["items"]
    low, high = schema.get("minItems", schema.get("minLength", 0)), schema.get("maxItems", schema.get("maxLength"))
    count = f"{low}" if low == high else f"{low} to {high}" if high else f"{low} or more"
    kind = "names" if items["type"] == "string" else f"{NAMES[items['type']]}s"
    return ", each ".join(filter(None, [f"{count} {kind}", _range(items)]))


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return " and ".join(f"{word} {_number(schema[key])}" for key, word in words.items() if key in schema)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)


if __name__ == "__main__":
    (FOLDER / "cli.md").write_text(render_commands(), encoding="utf-8")
    (FOLDER / "settings.md").write_text(render_settings(), encoding="utf-8")
