"""Find infinite and NaN weights in an ONNX file. ONNX Runtime does not report them, and the package onnx may not be
installed.

The file is a tree of numbered fields (protobuf). Only those that lead to the data of float tensors are read, as
`frcnn export` writes them: `raw_data`, or one packed field. Their numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_MODEL_GRAPH = 7
_GRAPH_NODE = 1
_GRAPH_INITIALIZER = 5
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR = 5
_ATTRIBUTE_GRAPH = 6
_TENSOR_TYPE = 2
_TENSOR_NAME = 8
_TENSOR_DATA = (9, 4, 10)
"""raw_data, float_data, double_data."""
_FLOAT_TYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
    16: np.dtype("<u2"),
}
"""TensorProto.DataType -> NumPy's; NumPy has no bfloat16 (16)."""
_BFLOAT16 = 16
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
"""Wire types."""

_Field = tuple[int, int | memoryview]


def are_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite. A tensor of infinite values alone is allowed: it fills up a list of scores,
    or is a bound."""
    infinite = np.isinf(values)
    return bool(not np.isnan(values).any() and (infinite.all() or not infinite.any()))


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 numbers, given as uint16, as float32: a bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def non_finite_tensor(path: Path) -> str | None:
    """The name of a tensor that is not finite; None: there is none.

    Raises:
        ValueError: the file is damaged, or it is not written as `frcnn export` writes it.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:  # mmap refuses an empty file
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            try:
                found = next(_non_finite(view), None)
            except (IndexError, ValueError) as error:
                reason = str(error)  # raised below, as a chained error would keep the file open
            else:
                return found
    raise ValueError(reason)


def _non_finite(model: memoryview) -> Iterator[str]:
    graphs = list(_submessages(model, _MODEL_GRAPH))
    while graphs:
        graph = graphs.pop()
        tensors = list(_submessages(graph, _GRAPH_INITIALIZER))
        for node in _submessages(graph, _GRAPH_NODE):
            for attribute in _submessages(node, _NODE_ATTRIBUTE):
                tensors += _submessages(attribute, _ATTRIBUTE_TENSOR)
                graphs += _submessages(attribute, _ATTRIBUTE_GRAPH)
        yield from filter(None, map(_name_if_non_finite, tensors))


def _name_if_non_finite(tensor: memoryview) -> str | None:
    data_type, name, data = 0, b"a tensor", list[memoryview]()
    for number, value in _fields(tensor):
        if number == _TENSOR_TYPE and isinstance(value, int):
            data_type = value
        elif number == _TENSOR_NAME and isinstance(value, memoryview):
            name = bytes(value)
        elif number in _TENSOR_DATA:
            if isinstance(value, int):
                raise ValueError("a tensor has its values in another form")
            data.append(value)
    dtype = _FLOAT_TYPES.get(data_type)
    if dtype is None:
        return None
    if len(data) > 1 or any(len(each) % dtype.itemsize for each in data):
        raise ValueError("a tensor has its values in another form")
    values = np.frombuffer(data[0] if data else b"", dtype)
    if are_finite(from_bfloat16(values) if data_type == _BFLOAT16 else values):
        return None
    return name.decode(errors="replace")


def _submessages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The fields of this number that hold bytes."""
    for field, value in _fields(message):
        if field == number and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message: (number, integer or bytes).

    Raises:
        IndexError, ValueError: the message is damaged.
    """
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, offset = _varint(message, offset)
            yield number, value
            continue
        if wire_type == _LENGTH_DELIMITED:
            length, offset = _varint(message, offset)
        elif wire_type in (_FIXED_32, _FIXED_64):
            length = 4 if wire_type == _FIXED_32 else 8
        else:
            raise ValueError(f"wire type {wire_type}")
        if offset + length > len(message):
            raise ValueError("a field is longer than its message")
        yield number, message[offset : offset + length]
        offset += length


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """A number of a variable length, 7 bits a byte, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise ValueError("a number of more than 10 bytes")
