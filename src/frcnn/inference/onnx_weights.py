"""The weights of an ONNX file are finite numbers. ONNX Runtime does not tell, and the package onnx may be missing.

Of the file's form (protobuf: a tree of numbered fields), only what leads to tensors is read. Field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_GRAPH_OF_MODEL, _NODE, _INITIALIZER, _ATTRIBUTE, _TENSOR_OF_ATTRIBUTE, _GRAPH_OF_ATTRIBUTE = 7, 1, 5, 5, 5, 6
_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 2, 4, 8, 9, 10
_FLOAT_TYPES: dict[int, np.dtype] = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8"), 16: np.dtype("<u2")}
"""TensorProto.DataType -> NumPy's; bfloat16 as the upper half of a float32."""
_BFLOAT16 = 16
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5

_Field = tuple[int, int | memoryview]


def not_finite(path: Path) -> str | None:
    """The name of a tensor with infinite or NaN values; None: there is none, or the file cannot be read. Single values
    may be infinite, as bounds."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            try:
                return next(_not_finite(view), None)
            except (IndexError, ValueError):  # damaged: the runtime says how
                return None


def _not_finite(model: memoryview) -> Iterator[str]:
    graphs = list(_parts(model, _GRAPH_OF_MODEL))
    while graphs:
        graph = graphs.pop()
        tensors = list(_parts(graph, _INITIALIZER))
        for node in _parts(graph, _NODE):
            for attribute in _parts(node, _ATTRIBUTE):
                tensors += _parts(attribute, _TENSOR_OF_ATTRIBUTE)
                graphs += _parts(attribute, _GRAPH_OF_ATTRIBUTE)
        yield from filter(None, map(_name_if_not_finite, tensors))


def _name_if_not_finite(tensor: memoryview) -> str | None:
    fields = dict(_fields(tensor))
    kind = fields.get(_TYPE)
    dtype = _FLOAT_TYPES.get(kind) if isinstance(kind, int) else None
    data = next((fields[each] for each in (_RAW, _FLOATS, _DOUBLES) if each in fields), b"")
    if dtype is None or isinstance(data, int) or len(data) % dtype.itemsize:
        return None
    values = np.frombuffer(data, dtype)
    if kind == _BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if (np.isfinite(values) if len(values) > 1 else ~np.isnan(values)).all():
        return None
    name = fields.get(_NAME, b"")
    return "a tensor" if isinstance(name, int) else bytes(name).decode(errors="replace")


def _parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """The fields of this number that hold bytes."""
    for field, value in _fields(message):
        if field == number and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message: (number, integer or bytes).

    Raises:
        IndexError, ValueError: the message is damaged.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(message, place)
        elif kind in (_FIXED_32, _FIXED_64):
            length = 4 if kind == _FIXED_32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(message):
            raise ValueError("a field is longer than its message")
        yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of a variable length, 7 bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number of more than 10 bytes")
