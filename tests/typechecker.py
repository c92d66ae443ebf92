"""The run-time type checker of the tests; an int passes for a float, as everywhere in Python."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    checked = _beartype(function)

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        exporting = torch.compiler.is_exporting()  # sizes are symbols then, not numbers
        return (function if exporting else checked)(*arguments, **keywords)

    return call
