"""Settings as plain values and as YAML."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from frcnn.config.schema import Config


def dump(config: BaseModel) -> dict[str, Any]:
    """Settings as plain nested values; `from_dict` reads them."""
    return config.model_dump(mode="json")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def dump_yaml(config: Config) -> str:
    """Settings as YAML, each with a comment that says what it does; `make_config(file=...)` reads it."""
    return "\n".join(_yaml_lines(config, config.unused(), "")) + "\n"


def yaml_value(value: Any) -> str:
    """A value as YAML, on one line."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=10**6)).removesuffix("...\n").strip()


def _yaml_lines(settings: BaseModel, unused: Mapping[str, str], prefix: str) -> Iterator[str]:
    pad = "  " * prefix.count(".")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            summary = textwrap.shorten((type(value).__doc__ or "").strip(), 100)
            yield f"{pad}{name}:  # {summary}"
            yield from _yaml_lines(value, unused, f"{prefix}{name}.")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            need = f" (unused: needs {unused[prefix + name]})" if prefix + name in unused else ""
            yield f"{pad}{name}: {yaml_value(plain)}".ljust(48) + f"  # {field.description}{need}"
