"""Untrusted YAML: nesting and repetition are limited before anything is built.

An alias repeats a part of the text, so a few lines can expand to billions of values. A parser recurses once for each
level of nesting, so deep nesting can crash the process.
"""

from typing import Any

import yaml

MAX_CHARACTERS = 100_000_000
MAX_DEPTH = 60
MAX_REPEATED = 100_000
"""Values that repeated parts (aliases) may add."""
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


def load_yaml(text: str, loader: Any = _FAST) -> Any:
    """The content of a text.

    Args:
        loader: `yaml.BaseLoader` leaves all values as text.

    Raises:
        yaml.YAMLError: it is not YAML, or asks for more than the bounds above.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"the text has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}")
    try:
        _require_bounded(text)
        return yaml.load(text, loader)
    except (ValueError, OverflowError, TypeError) as error:  # e.g. the date 2024-13-45, or a list as a key
        if isinstance(error, yaml.YAMLError):
            raise
        raise yaml.YAMLError(str(error)) from None


def require_unique_names(text: str) -> None:
    """Refuse a name that is there twice in one group: `load_yaml` drops the first one, with everything in it.

    Raises:
        yaml.YAMLError: the message says which name, and where.
    """
    _require_unique(yaml.compose(text, _FAST))


def _require_unique(node: yaml.Node | None) -> None:
    names: set[str] = set()
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.value in names:
            raise yaml.YAMLError(f"line {name.start_mark.line + 1}: '{name.value}' is there twice; join the two")
        names.add(name.value)
        _require_unique(value)


def _require_bounded(text: str) -> None:
    """Check that a small text does not become huge values.

    Raises:
        yaml.YAMLError: the text nests too deep, or repeats too much.
    """
    sizes = [0]  # of the collections that are open: the values in each, repeated ones included
    anchors: list[str | None] = []  # their names
    named: dict[str, int] = {}
    repeated = 0
    for event in yaml.parse(text, Loader=_FAST):
        if isinstance(event, yaml.CollectionStartEvent):
            if len(sizes) > MAX_DEPTH:
                raise yaml.YAMLError(f"it nests more than {MAX_DEPTH} levels deep")
            sizes.append(1)
            anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, anchor = sizes.pop(), anchors.pop()
            sizes[-1] += size
            if anchor is not None:
                named[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            sizes[-1] += 1
        elif isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            if name in anchors:
                raise yaml.YAMLError(f"its alias *{name[:40]} is inside of what it repeats")
            size = named.get(name, 1)
            sizes[-1] += size
            repeated += size
            if repeated > MAX_REPEATED:
                raise yaml.YAMLError(f"its aliases (e.g. *{name[:40]}) expand to more than {MAX_REPEATED:,} values")
