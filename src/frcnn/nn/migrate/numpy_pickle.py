"""Read pickles that hold NumPy arrays, such as those of detectron2's model zoo. Nothing that they name is called, not
even a function of NumPy: the names stand for records, which become arrays at the end.
"""

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

_CORES = ("numpy.core", "numpy._core")  # of NumPy 1 and 2
_ALLOWED = {
    **{(f"{core}.multiarray", "_reconstruct"): "array" for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): "scalar" for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): "buffer" for core in _CORES},
    ("numpy", "ndarray"): "class",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",
    **{(module, "bytes"): "bytes" for module in ("builtins", "__builtin__")},  # called without arguments: none
    ("collections", "OrderedDict"): "dict",
}
"""The names in a pickle of arrays -> what each of them makes."""
_TYPES = re.compile(r"f[248]|i[1248]|u1|b1")


class _Record:
    """What the pickle says of one object."""

    __slots__ = ("arguments", "kind", "state")

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Name:
    """A function or class that the pickle names; calling it makes a record."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, *arguments: Any) -> Any:
        return dict(*arguments) if self.kind == "dict" else _Record(self.kind, arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the pickle changes a function")


class _Unpickler(pickle._Unpickler):  # the one in Python: that in C takes memory for numbers that a file only names
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module[:100]}.{name[:100]}")
        return _Name(_ALLOWED[module, name])

    def get_extension(self, code: int) -> Any:
        raise pickle.UnpicklingError("it names an extension")


def load_numpy_pickle(path: Path) -> Any:
    """The content of a pickle of dictionaries, arrays, numbers and texts, which may be of Python 2.

    Raises:
        ValueError: it is damaged, or holds something else, and is not opened because it could run code.
    """
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file, encoding="latin1").load())
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: holds more than NumPy arrays ({error}), and is not opened because it could run code"
        ) from None
    except Exception as error:  # whatever a damaged pickle leads to
        raise ValueError(f"{path}: damaged, or not a pickle ({type(error).__name__}: {error}); get it again") from None


def _plain(value: Any) -> Any:
    """Records as arrays, bytes and numbers."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, _Name):
        raise ValueError("a class stands where an array is expected")
    if not isinstance(value, _Record):
        return value
    if value.kind == "bytes":
        return _bytes(value)
    if value.kind == "array":
        _, shape, kind, is_fortran, data = value.state
        return _array(data, _type(kind), shape, "F" if is_fortran else "C")
    if value.kind == "buffer":
        data, kind, shape, order = value.arguments
        return _array(data, _type(kind), shape, order)
    if value.kind == "scalar":
        kind, data = value.arguments
        return _array(data, _type(kind), (), "C")[()]
    raise ValueError(f"a {value.kind} stands where an array is expected")


def _bytes(value: Any) -> bytes:
    if isinstance(value, _Record) and value.kind == "bytes" and value.arguments[1:] in ((), ("latin1",)):
        value = value.arguments[0] if value.arguments else b""
    if isinstance(value, str):
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise ValueError("the values of an array are no bytes")


def _type(value: Any) -> np.dtype[Any]:
    if not isinstance(value, _Record) or value.kind != "dtype":
        raise ValueError("an array has no type")
    name = value.arguments[0]
    order = "<" if value.state is None else value.state[1]
    if not isinstance(name, str) or not _TYPES.fullmatch(name) or order not in ("<", ">", "=", "|"):
        raise ValueError(f"an array has the type {str(name)[:20]}, which frcnn does not read")
    return np.dtype(order + name)


def _array(values: Any, kind: np.dtype[Any], shape: Any, order: Any) -> np.ndarray:
    data, sides = _bytes(values), tuple(shape)
    if not all(type(side) is int and side >= 0 for side in sides) or order not in ("C", "F"):
        raise ValueError(f"an array has the shape {str(sides)[:100]}")
    if len(data) != math.prod(sides) * kind.itemsize:
        raise ValueError(f"an array of shape {str(sides)[:100]} has {len(data)} bytes")
    return np.frombuffer(data, kind).reshape(sides, order=order).astype(kind.newbyteorder("="))
