"""Pickles of arrays are read, and nothing that they name is called."""

import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.nn.migrate.numpy_pickle import load_numpy_pickle

CONTENT = {
    "model": OrderedDict(
        [
            ("conv.weight", np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
            ("turned", np.asfortranarray(np.arange(6.0).reshape(2, 3))),
            ("big-endian", np.arange(3, dtype=">i4")),
            ("none", np.zeros((0, 4), np.float16)),
            ("number", np.array(7)),
        ]
    ),
    "scale": np.float32(0.5),
    "__author__": "Detectron2 Model Zoo",
    "steps": [1, 2],
}


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(CONTENT, protocol))
    found = load_numpy_pickle(tmp_path / "a.pkl")
    assert found["__author__"] == "Detectron2 Model Zoo"
    assert found["steps"] == [1, 2]
    assert found["scale"] == 0.5
    assert list(found["model"]) == list(CONTENT["model"])
    for name, array in CONTENT["model"].items():
        np.testing.assert_array_equal(found["model"][name], array)
        assert found["model"][name].dtype == array.dtype.newbyteorder("=")


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    """There the values of an array are a text, and NumPy's module has its old name."""
    text = (
        b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87"
        b"Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
        b"\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00@tbs."
    )
    (tmp_path / "a.pkl").write_bytes(text)
    np.testing.assert_array_equal(load_numpy_pickle(tmp_path / "a.pkl")["w"], np.array([1, 2], np.float32))


def test_code_never_runs(tmp_path: Path) -> None:
    evil = Evil(tmp_path / "executed.txt")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {}, "evil": evil}))
    pickle.loads((tmp_path / "a.pkl").read_bytes())["evil"].close()
    evil.path.unlink()  # so it would have worked
    with pytest.raises(ValueError, match=r"a\.pkl: holds more than NumPy arrays \(it names (_?io|builtins)\.open\)"):
        load_numpy_pickle(tmp_path / "a.pkl")
    assert not evil.path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", r"it names builtins\.eval"),
        (b"cnumpy.core.multiarray\n_reconstruct\n}S'a'\nI1\nsb.", "the pickle changes a function"),
        (b"\x82\x01.", "it names an extension"),
        (b"cnumpy\nndarray\n.", "damaged"),
        (b"", "damaged"),
        (b"not a pickle", "damaged"),
        (pickle.dumps(np.array(["text"])), "has the type U4, which frcnn does not read"),
        (pickle.dumps(np.array([None])), "has the type O8, which frcnn does not read"),
        (pickle.dumps(np.zeros((2, 3))).replace(b"K\x02K\x03", b"K\x02K\x09", 1), r"shape \(2, 9\) has 48 bytes"),
    ],
)
def test_other_pickles_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pkl: .*{message}"):
        load_numpy_pickle(tmp_path / "a.pkl")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_gives_data(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(CONTENT, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with suppress(ValueError):  # no other error, and no crash
        load_numpy_pickle(path)
