"""The names of CNTK's tutorial: each is accepted, means what it says, and is documented."""

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from frcnn.config import Config, dump, from_dict, make_config
from frcnn.config.cntk import NAMES
from frcnn.config.merge import _nested
from frcnn.config.presets import combine

# What our setting holds after the tutorial's own value is set, where that is not the value itself.
CONVERTED: dict[tuple[str, str], object] = {
    ("CNTK.TRAIN_E2E", "True"): "end_to_end",
    ("CNTK.E2E_LR_PER_SAMPLE", "[0.001]*10+[0.0001]*10+[0.00001]"): [0.001] * 10 + [0.0001] * 10 + [0.00001],
    ("CNTK.RPN_LR_PER_SAMPLE", "[0.001]*12+[0.0001]*4"): [0.001] * 12 + [0.0001] * 4,
    ("CNTK.FRCN_LR_PER_SAMPLE", "[0.001]*6+[0.0001]*2"): [0.001] * 6 + [0.0001] * 2,
    ("MODEL.BASE_MODEL", "AlexNet"): "alexnet",
    ("MODEL.LAST_CONV_NODE_NAME", "conv5.y"): ["conv5.y"],
    ("MODEL.LAST_CONV_NODE_NAME", "relu5_3"): ["relu5_3"],
    ("MODEL.BASE_MODEL", "VGG16"): "vgg16",
    ("MODEL.IMG_PAD_COLOR", "[103,116,123]"): [123, 116, 103],
}


def leaves(values: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def literal(text: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return list(value) if isinstance(value, tuple) else value


@pytest.fixture(scope="module")
def rows(shared: Path) -> list[dict[str, str]]:
    with (shared / "tutorial" / "parameters.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def values_of(row: dict[str, str]) -> list[str]:
    """The tutorial's values, "[4, 8, 12] (Grocery); [8, 16, 32]" being two of them."""
    return [re.sub(r" \(\w+\)$", "", value.strip()) for value in row["tutorial value"].split(";")]


def test_all_names_of_the_tutorial_are_known(rows: list[dict[str, str]]) -> None:
    assert sorted(NAMES) == sorted(row["tutorial name"] for row in rows)


def test_each_name_points_to_a_setting_of_its_own() -> None:
    keys = [renamed.key for renamed in NAMES.values()]
    assert set(keys) - {"detector.box_deltas"} <= {key for key, _ in leaves(dump(make_config()))}
    assert len(set(keys)) == len(keys)


def test_the_tutorials_own_values_are_taken(rows: list[dict[str, str]]) -> None:
    for row in rows:
        name = row["tutorial name"]
        for value in values_of(row):
            config = make_config(overrides=[f"{name}={value}"])
            if name == "BBOX_NORMALIZE_TARGETS":
                assert config == make_config()
                continue
            settings = dict(leaves(dump(config)))
            assert settings[NAMES[name].key] == CONVERTED.get((name, value), literal(value)), (name, value)


def test_all_of_the_tutorials_parameters_go_together(rows: list[dict[str, str]]) -> None:
    """Though some have no effect beside others."""
    model = ("MODEL.FEATURE_NODE_NAME", "MODEL.FEATURE_STRIDE")
    settings = {row["tutorial name"]: literal(values_of(row)[0]) for row in rows if row["tutorial name"] not in model}
    assert make_config(overrides=settings).detector.image.resize == "fit"


def test_targets_that_are_not_normalized_are_the_deltas_themselves() -> None:
    deltas = make_config(overrides=["BBOX_NORMALIZE_TARGETS=False"]).detector.box_deltas
    assert (deltas.means, deltas.stds) == ((0, 0, 0, 0), (1, 1, 1, 1))


@pytest.mark.parametrize("name", ["IMAGE_WIDTH", "IMAGE_HEIGHT"])
def test_the_tutorials_size_of_images_implies_its_way_of_resizing(name: str) -> None:
    image = make_config(overrides=[f"{name}=640"]).detector.image
    assert image.resize == "fit"
    assert {image.width, image.height} == {640, 850}


def test_the_tutorials_values_are_the_defaults_of_how_it_learns(rows: list[dict[str, str]]) -> None:
    tutorial = make_config(recipe="tutorial")
    for row in rows:
        if row["group"] in ("learning", "loss", "train", "test", "detector"):
            override = f"{row['tutorial name']}={row['tutorial value']}"
            assert make_config(recipe="tutorial", overrides=[override]) == tutorial, override


def test_the_tutorial_can_store_a_native_model() -> None:
    assert make_config(overrides=["STORE_EVAL_MODEL_WITH_NATIVE_UDF=True"]).train.export_native


def test_the_tutorials_switches_choose_scheme_and_graphs() -> None:
    train = make_config(overrides=["CNTK.TRAIN_E2E=False", "CNTK.DEBUG_OUTPUT=True", "CNTK.GRAPH_TYPE=pdf"]).train
    assert (train.scheme, train.draw_graph, train.graph_type) == ("alternating", True, "pdf")


def test_the_tutorials_prefix_is_accepted() -> None:
    assert make_config(overrides=["__C.CNTK.E2E_MAX_EPOCHS=3"]).train.epochs == 3


def test_color_goes_from_bgr_to_rgb() -> None:
    assert make_config(overrides=["MODEL.IMG_PAD_COLOR=[103,116,123]"]).base_model.mean == (123.0, 116.0, 103.0)


@pytest.mark.parametrize("name", ["AlexNet", "VGG16"])
def test_base_model_brings_its_preset(name: str) -> None:
    assert make_config(overrides=[f"MODEL.BASE_MODEL={name}"]) == make_config(base_model=name.lower())


@pytest.mark.parametrize("override", ["MODEL.IMG_PAD_COLOR=5", "MODEL.BASE_MODEL=5"])
def test_a_value_that_cannot_be_converted_is_named(override: str) -> None:
    name, value = override.split("=")
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: {value} is not a value that this setting takes"):
        make_config(overrides=[override])


@pytest.mark.parametrize("override", ["CNTK.E2E_MAX_EPOCHS=0", "MODEL.IMG_PAD_COLOR=[1,2]"])
def test_a_value_out_of_range_is_named_by_our_key(override: str) -> None:
    with pytest.raises(ValueError, match=re.escape(NAMES[override.split("=")[0]].key)):
        make_config(overrides=[override])


def documented() -> list[tuple[str, str, str]]:
    """(tutorial's name, our key, default) of each row of the table."""
    text = (Path(__file__).parents[2] / "docs" / "parameters.md").read_text(encoding="utf-8")
    return re.findall(r"^\|\s*`([^`]+)`\s*\|\s*`([^`]+)`\s*\|\s*(.*?)\s*\|", text, flags=re.MULTILINE)


def test_documentation_has_one_row_for_each_name() -> None:
    rows = [(name, key) for name, key, _ in documented()]
    assert sorted(rows) == sorted((name, renamed.key) for name, renamed in NAMES.items())


def test_documented_defaults_are_the_defaults() -> None:
    defaults = dict(leaves(dump(make_config())))
    for _, key, default in documented():
        if default == "preset":
            assert key.startswith("base_model.")
            continue
        if key == "detector.box_deltas":
            continue
        config = from_dict(Config, combine(dump(make_config()), _nested([f"{key}={default.strip('`')}"])))
        assert dict(leaves(dump(config)))[key] == defaults[key], key
