"""Untrusted YAML is limited; other YAML is read as PyYAML reads it."""

from pathlib import Path

import pytest
import strategies  # noqa: F401  (its profile)
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny import write_annotated

from frcnn.config import make_config
from frcnn.tools.check.check import check
from frcnn.yaml_text import MAX_DEPTH, MAX_REPEATED, load_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
"""Nine to the power of ten values."""
DEEP = "[" * 100_000 + "]" * 100_000
LIBYAML = "while increasing flow level\nexceeded maximum nesting depth"
"""What newer versions of libyaml say themselves at 1,000 levels."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_it_is_read_as_pyyaml_reads_it(value: object) -> None:
    text = yaml.safe_dump(value)
    assert load_yaml(text) == yaml.safe_load(text)
    assert load_yaml(text, yaml.BaseLoader) == yaml.load(text, yaml.BaseLoader)


def test_a_few_repeated_parts_are_no_danger() -> None:
    assert load_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }
    list_of_1000 = f"a: &a [{', '.join(['x'] * 999)}]\n"
    assert len(load_yaml(list_of_1000 + f"b: [{', '.join(['*a'] * (MAX_REPEATED // 1000))}]")["b"]) == 100
    with pytest.raises(yaml.YAMLError, match="expand to more than 100,000 values"):
        load_yaml(list_of_1000 + f"b: [{', '.join(['*a'] * (MAX_REPEATED // 1000 + 1))}]")


def test_bounds() -> None:
    with pytest.raises(yaml.YAMLError, match=r"its aliases \(e\.g\. \*e\) expand to more than 100,000 values"):
        load_yaml(BOMB)
    assert load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(yaml.YAMLError, match="nests more than 60 levels deep"):
        load_yaml("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    with pytest.raises(yaml.YAMLError, match=f"nests more than 60 levels deep|{LIBYAML}"):
        load_yaml("a: " + DEEP)
    with pytest.raises(yaml.YAMLError, match="month must be in"):
        load_yaml("2024-13-01")
    with pytest.raises(yaml.YAMLError, match=r"its alias \*a is inside of what it repeats"):
        load_yaml("&a [1, *a]")
    with pytest.raises(yaml.YAMLError):
        load_yaml("[1, 2")
    with pytest.raises(yaml.YAMLError):
        load_yaml("a: \udcff")


def test_a_text_has_a_limited_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frcnn.yaml_text.MAX_CHARACTERS", 1000)
    assert load_yaml("x" * 1000) == "x" * 1000
    with pytest.raises(yaml.YAMLError, match="the text has 1,001 characters; the limit is 1,000"):
        load_yaml("x" * 1001)


@pytest.mark.parametrize("text", [BOMB + "train: *j\n", f"train: {DEEP}\n", BOMB])
def test_untrusted_settings(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"config\.yaml: not a YAML file: (its aliases|it nests|{LIBYAML})") as error:
        make_config(file=file)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("value", ["[0.1]*100000*100000", "[" * 5000 + "]" * 5000, "+".join(["[1]"] * 5000)])
def test_list_arithmetic_is_limited(value: str) -> None:
    with pytest.raises(ValueError, match="not a list of at most 100,000 numbers") as error:
        make_config(overrides={"train.lr": value})
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.yaml", BOMB + "names: *j\ntrain: .\n"),
        ("data.yaml", f"names: {DEEP}\ntrain: .\n"),
        ("objects.yaml", f"- file: 0.png\n  boxes: {DEEP}\n"),
        ("objects.json", f'{{"images": {DEEP}}}'),
        ("0.xml", "<annotation>" + "<a>" * 1000 + "</a>" * 1000 + "</annotation>"),
    ],
    ids=["repeated names", "nested names", "nested YAML", "nested JSON", "nested XML"],
)
def test_untrusted_annotations(name: str, content: str, tmp_path: Path) -> None:
    write_annotated(tmp_path / "0.png", [("red", (10, 10, 50, 50))])
    for file in tmp_path.glob("*.tsv"):
        file.unlink()
    (tmp_path / name).write_text(content)
    try:
        said = str(check(tmp_path).problems)
    except ValueError as error:
        said = str(error)
    assert name in said or "no annotation file has a known format" in said
    assert len(said) < 5000
