"""The tables of base models and recipes."""

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

_FPN = "-fpn"
_ALL_FPN = "*-fpn"
"""The entry of the settings that all pyramids share."""


def base_model_names() -> list[str]:
    """All names: the entries of the table, and NAME-fpn where an entry has `fpn`."""
    table = _base_models()
    return sorted([*table, *(name + _FPN for name, entry in table.items() if "fpn" in entry)])


def recipe_names() -> list[str]:
    return sorted(_table("recipes.yaml"))


def base_model_preset(name: str) -> dict[str, Any]:
    """The settings of a base model, by its name.

    Raises:
        ValueError: there is no such base model (with the nearest name).
    """
    if name not in base_model_names():
        raise ValueError(
            f"unknown base model '{name}'. {nearest(name, base_model_names())} To use a file of your own, give its "
            f"path, with .yaml at the end."
        )
    table = _base_models()
    plain = name if name in table else name.removesuffix(_FPN)
    entry = {key: values for key, values in table[plain].items() if key != "fpn"}
    layers = [{"base_model": {"architecture": f"torchvision:{plain}"}}, entry]
    if name != plain:
        layers += [_table("base_models.yaml")[_ALL_FPN], {"base_model": table[plain]["fpn"]}]
    return combine(*layers, {"base_model": {"name": name}})


def recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe, by its name.

    Raises:
        ValueError: there is no such recipe (with the nearest name).
    """
    if name not in recipe_names():
        raise ValueError(f"unknown recipe '{name}'. {nearest(name, recipe_names())}")
    return dict(_table("recipes.yaml")[name])


def combine(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested settings; the last layer that has a setting wins."""
    both: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            low = both.get(key)
            both[key] = combine(low, value) if isinstance(low, dict) and isinstance(value, dict) else value
    return both


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint for a message: the most similar name, or all of them, or the nearest."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    if len(names) <= 30:
        return f"Known: {', '.join(names)}."
    return f"The nearest are {', '.join(difflib.get_close_matches(name, names, n=3, cutoff=0))}."


def _base_models() -> dict[str, Any]:
    return {name: entry for name, entry in _table("base_models.yaml").items() if name != _ALL_FPN}


@cache
def _table(file: str) -> dict[str, Any]:
    return dict(yaml.safe_load((resources.files(__package__) / file).read_text(encoding="utf-8")))
