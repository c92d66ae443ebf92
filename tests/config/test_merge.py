"""Where settings come from, which of them wins, and what is said of those that are wrong."""

import re
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
import strategies  # noqa: F401  (its profile)
import yaml
from hypothesis import given

from frcnn.config import Config, base_model_names, dump, dump_yaml, from_dict, make_config, presets, recipe_names
from frcnn.config.merge import _OTHER_LIBRARIES, leaf_fields

LINE = re.compile(r"(?P<pad> *)(?P<name>\w+):(?P<value>.*?)  +# (?P<comment>.+)")


def leaves(values: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base models and recipes that say where they come from, in place of the package's own."""
    cut = {"architecture": "timm:resnet18", "last_conv_node": "layer3"}
    texts: dict[str, dict[str, object]] = {
        "base_models.yaml": {
            "efficientnet_lite0": {"base_model": cut, "train": {"seed": 2, "lr": [2]}},
            "other": {"base_model": cut, "train": {"epochs": 22}},
        },
        "recipes.yaml": {
            "few": {"train": {"epochs": 3, "batch_size": 3, "lr": [3]}},
            "empty": {},
            "for_other": {"base_model": {"name": "other"}, "train": {"epochs": 33, "momentum": 0.33}},
        },
    }
    monkeypatch.setattr(presets, "_table", texts.__getitem__)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------------- precedence


@pytest.mark.usefixtures("tables")
def test_defaults_then_base_model_then_recipe_then_file_then_named_settings(tmp_path: Path) -> None:
    def epochs(overrides: tuple[str, ...] = (), file: Path | None = None, recipe: str | None = "few") -> int:
        return make_config(recipe=recipe, file=file, overrides=overrides).train.epochs

    assert epochs(recipe=None) == epochs(recipe="empty") == 14
    assert epochs() == 3
    assert (make_config().train.lr, make_config(recipe="few").train.lr) == ((2,), (3,))
    assert make_config(recipe="few", base_model="other").train.epochs == 3
    file = written(tmp_path, "train: {epochs: 4}")
    assert epochs(file=file) == 4
    assert epochs(("train.epochs=5",), file) == 5
    assert epochs(("train.epochs=5", "CNTK.E2E_MAX_EPOCHS=6"), file) == 6
    assert epochs(("CNTK.E2E_MAX_EPOCHS=6", "train.epochs=5"), file) == 5


@pytest.mark.usefixtures("tables")
def test_lower_levels_stay_where_higher_ones_say_nothing(tmp_path: Path) -> None:
    train = make_config(recipe="few", file=written(tmp_path, "train: {momentum: 0.5}")).train
    assert (train.seed, train.batch_size, train.momentum, train.bias_lr_mult) == (2, 3, 0.5, 2.0)


@pytest.mark.parametrize(
    ("base_model", "recipe"),
    [
        (base_model, recipe)
        for base_model in base_model_names()
        for recipe in recipe_names()
        if presets.recipe(recipe)["base_model"].get("name", base_model) == base_model
    ],
)
def test_a_recipe_wins_over_its_base_models(base_model: str, recipe: str, tmp_path: Path) -> None:
    said = dict(leaves(presets.recipe(recipe)))
    as_file = written(tmp_path, yaml.safe_dump(presets.recipe(recipe)))  # a file wins over a base model
    config = make_config(base_model=base_model, recipe=recipe)
    assert config == make_config(base_model=base_model, file=as_file)
    merged, plain = dict(leaves(dump(config))), dict(leaves(dump(make_config(base_model=base_model))))
    assert all(merged[name] == plain[name] for name in merged.keys() - said.keys())
    assert make_config(base_model=base_model, recipe=recipe, overrides={"train.lr": 0.5}).train.lr == (0.5,)


@pytest.mark.parametrize(("key", "value"), [*leaves(dump(make_config()))])
def test_one_setting_leaves_all_others_as_they_are(key: str, value: object) -> None:
    if key not in make_config().unused():
        assert make_config(overrides={key: value}) == make_config()


@pytest.mark.usefixtures("tables")
def test_a_recipe_brings_its_base_model() -> None:
    config = make_config(recipe="for_other")
    assert (config.base_model.name, config.train.epochs, config.train.momentum) == ("other", 33, 0.33)
    assert make_config(recipe="for_other", base_model="other") == config


@pytest.mark.usefixtures("tables")
def test_a_recipe_for_another_base_model_is_refused() -> None:
    message = (
        "several base models are named: 'efficientnet_lite0' (base_model), 'other' (recipe 'for_other'); choose one"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(recipe="for_other", base_model="efficientnet_lite0")


def test_a_file_for_another_base_model_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "base_model: {name: vgg16}")
    with pytest.raises(
        ValueError, match=r"several base models are named: 'alexnet' .base_model., 'vgg16' .*config\.yaml"
    ):
        make_config(base_model="alexnet", file=file)


def test_a_file_may_name_a_preset_alone(tmp_path: Path) -> None:
    config = make_config(file=written(tmp_path, "base_model: {name: vgg16}"))
    assert config.base_model == make_config(base_model="vgg16").base_model


def test_a_file_may_bring_its_own_base_model(tmp_path: Path) -> None:
    file = written(tmp_path, "base_model: {name: mine, architecture: 'timm:resnet18', last_conv_node: layer3}")
    base_model = make_config(file=file).base_model
    assert (base_model.name, base_model.architecture) == ("mine", "timm:resnet18")


def test_a_base_model_may_be_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "my_model.yaml"
    file.write_text("base_model: {architecture: 'timm:resnet18', last_conv_node: layer3}\ntrain: {lr: [0.5]}")
    config = make_config(base_model=str(file))
    assert config.base_model.name == "my_model"
    assert config.base_model.last_conv_node == ("layer3",)
    assert config.train.lr == (0.5,)
    assert config.train.epochs == make_config().train.epochs
    assert make_config(base_model=str(file), overrides=["train.lr=0.25"]).train.lr == (0.25,)


def test_weights_of_ones_own_base_model_lie_beside_its_file(tmp_path: Path) -> None:
    file = tmp_path / "my_model.yaml"
    for weights, expected in (("r18.pth", str(tmp_path / "r18.pth")), ("none", "none"), ("/a/b.pth", "/a/b.pth")):
        file.write_text(f"base_model: {{architecture: 'timm:resnet18', last_conv_node: layer3, weights: {weights}}}")
        assert make_config(base_model=str(file)).base_model.weights == expected


def test_a_base_model_of_ones_own_must_say_where_it_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "my_model.yaml"
    file.write_text("base_model: {architecture: 'timm:resnet18'}")
    with pytest.raises(ValueError, match=r"setting 'base_model\.last_conv_node' is missing; `frcnn layers"):
        make_config(base_model=str(file))
    file.write_text("base_modell: {architecture: 'timm:resnet18'}")
    with pytest.raises(ValueError, match=r"unknown setting 'base_modell\.architecture'"):
        make_config(base_model=str(file))
    with pytest.raises(FileNotFoundError, match=r"ghost\.yaml: no such config file"):
        make_config(base_model=str(tmp_path / "ghost.yaml"))


def test_a_pyramid_is_named_by_its_end() -> None:
    plain, pyramid = make_config(base_model="resnet50"), make_config(base_model="resnet50-fpn")
    assert plain.base_model.last_conv_node == ("layer3",)
    assert pyramid.base_model.last_conv_node == ("layer1", "layer2", "layer3", "layer4")
    assert (pyramid.base_model.name, pyramid.base_model.last_hidden_node) == ("resnet50-fpn", None)
    assert (plain.detector.anchors.base_size, pyramid.detector.anchors.base_size) == (16, None)
    assert make_config(file=None, overrides=["base_model.name=resnet50-fpn"]) == pyramid


def test_a_file_that_names_an_unknown_base_model_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown base model 'vgg61'\. Did you mean 'vgg1"):
        make_config(file=written(tmp_path, "base_model: {name: vgg61}"))


@pytest.mark.parametrize(
    "preset",
    [*({"base_model": name} for name in base_model_names()), *({"recipe": name} for name in recipe_names())],
    ids=str,
)
def test_every_preset_is_valid_and_comes_back_from_its_yaml(tmp_path: Path, preset: dict[str, str]) -> None:
    config = make_config(**preset)  # type: ignore[arg-type]
    assert config.base_model.name == preset.get("base_model", config.base_model.name)
    assert make_config(file=written(tmp_path, dump_yaml(config))) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_model": "alexnett"}, "unknown base model 'alexnett'. Did you mean 'alexnet'?"),
        ({"recipe": "tutoral"}, "unknown recipe 'tutoral'. Did you mean 'tutorial'?"),
        ({"recipe": "zzz"}, "unknown recipe 'zzz'. Known: grocery-alexnet,"),
    ],
)
def test_unknown_presets_are_named_with_the_nearest(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(**arguments)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ YAML


def test_yaml_has_every_setting_with_a_comment() -> None:
    path: list[str] = []
    seen = {}
    for line in dump_yaml(make_config()).splitlines():
        match = LINE.fullmatch(line)
        assert match, f"no comment: {line}"
        path = [*path[: len(match["pad"]) // 2], match["name"]]
        if match["value"]:
            seen[".".join(path)] = match["comment"]
    assert list(seen) == [key for key, _ in leaves(dump(make_config()))]
    assert all(len(comment) > 3 and comment != "None" for comment in seen.values())


def test_yaml_comes_back_as_the_same_settings(tmp_path: Path) -> None:
    config = make_config(
        base_model="vgg16",
        overrides=(
            "train.lr=[0.001]*10+[0.0001]*10+[0.00001]",
            "train.weight_decay=1e-7",
            "data.path='C:\\photos #1: mine'",
            "data.max_boxes=50",
            "base_model.last_hidden_node=null",
            "detector.anchors.scales=[0.5]",
        ),
    )
    assert make_config(file=written(tmp_path, dump_yaml(config))) == config


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_any_text_comes_back_from_yaml(text: str) -> None:
    config = make_config(overrides={"data.name": text, "data.path": "after"})
    assert from_dict(Config, yaml.safe_load(dump_yaml(config))) == config


@given(st.floats(min_value=1e-12, max_value=1e12), st.floats(0, 1))
def test_any_number_comes_back_from_yaml(rate: float, fraction: float) -> None:
    config = make_config(overrides={"train.lr": [rate, rate], "train.weight_decay": fraction})
    assert from_dict(Config, yaml.safe_load(dump_yaml(config))) == config


def test_dump_is_plain_values_that_come_back() -> None:
    config = make_config(base_model="alexnet")
    assert from_dict(Config, dump(config)) == config
    assert yaml.safe_load(yaml.safe_dump(dump(config))) == dump(config)


# ------------------------------------------------------------------------------------------------------------ files


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml: no such config file"):
        make_config(file=tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "not a YAML file"), ("- 1\n- 2", "settings by name"), ("", "settings by name")]
)
def test_a_file_that_holds_no_settings(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"config\.yaml: .*{message}"):
        make_config(file=written(tmp_path, text))


def test_a_group_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """YAML would forget the first one."""
    text = "train: {lr: 0.005}\ndetector:\n  results: {score_threshold: 0.1}\ntrain:\n  epochs: 5\n"
    with pytest.raises(
        ValueError, match=r"config\.yaml: not a YAML file: line 4: 'train' is there twice; join the two"
    ):
        make_config(file=written(tmp_path, text))
    with pytest.raises(ValueError, match=r"line 3: 'epochs' is there twice"):
        make_config(file=written(tmp_path, "train:\n  epochs: 4\n  epochs: 5\n"))
    parts = "data: {cache: none}\ntrain: {epochs: 5, rpn: {sigma: 2}, roi: {sigma: 2}}\n"  # equal names in two groups
    assert make_config(file=written(tmp_path, parts)).train.epochs == 5


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"photo\.jpg: not a YAML file"):
        make_config(file=path)


def test_unknown_key_in_a_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    message = r"unknown setting 'train\.momentun'\. Did you mean 'train\.momentum'\?"
    with pytest.raises(ValueError, match=message):
        make_config(file=written(tmp_path, "train: {momentun: 0.5}"))


@pytest.mark.parametrize("value", ["3", "[1, 2]", ""])
@pytest.mark.parametrize(("group", "member"), [("train", "train.scheme"), ("base_model", "base_model.name")])
def test_a_group_takes_no_value(tmp_path: Path, group: str, member: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"setting '{group}' is a group.*'{re.escape(member)}'"):
        make_config(file=written(tmp_path, f"{group}: {value}"))


def test_a_group_in_a_group_takes_no_value(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"setting 'train\.rpn' is a group.*'train\.rpn\.positive_iou'"):
        make_config(file=written(tmp_path, "train: {rpn: 3}"))


# -------------------------------------------------------------------------------------------------------- overrides


def overridden(*overrides: str) -> Config:
    return make_config(overrides=overrides)


def test_values_are_yaml() -> None:
    config = overridden(
        "train.epochs=7",
        "train.weight_decay = 1e-4",
        "train.flip=false",
        "train.clip_norm=null",
        "detector.anchors.scales=[4, 8, 12]",
        "detector.box_deltas.means=(0.1, 0.2, 0.3, 0.4)",
        "data.path=C:/a=b",
        "train.device=cpu",
    )
    assert config.train.epochs == 7
    assert config.train.weight_decay == 1e-4
    assert config.train.flip is False
    assert config.train.clip_norm is None
    assert config.detector.anchors.scales == (4.0, 8.0, 12.0)
    assert config.detector.box_deltas.means == (0.1, 0.2, 0.3, 0.4)
    assert config.data.path == "C:/a=b"
    assert config.train.device == "cpu"


def test_a_single_number_is_a_list_of_one() -> None:
    assert overridden("train.lr=0.01").train.lr == (0.01,)


def test_set_may_name_a_preset_alone() -> None:
    assert overridden("base_model.name=alexnet") == make_config(base_model="alexnet")


def test_list_arithmetic() -> None:
    assert overridden("train.lr=[0.001]*10+[0.0001]*10+[0.00001]").train.lr == (0.001,) * 10 + (0.0001,) * 10 + (1e-5,)
    assert overridden("train.lr=[1, 2]*2").train.lr == (1.0, 2.0, 1.0, 2.0)
    assert overridden("train.lr=[1e-3] * 2 + [1e-4]").train.lr == (1e-3, 1e-3, 1e-4)


@pytest.mark.parametrize(
    "value",
    ["[1]*x", "[1]*2.5", "[1]*10+0.1", "[1]*", "[print(1)]*2", "[1]**2", "[1]*-1", "[[1]]*2", "[1]*1000001"],
)
def test_what_is_not_a_list_of_numbers_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"'train\.lr' = .*: not a list of at most 100,000 numbers; write e\.g\."):
        overridden(f"train.lr={value}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "unknown setting 'train.epoch'. Did you mean 'train.epochs'?"),
        ("traim.epochs=3", "unknown setting 'traim.epochs'. Did you mean 'train.epochs'?"),
        ("train.learning_rate=3", "unknown setting 'train.learning_rate'. Did you mean 'train.lr'?"),
        ("momentum=0.5", "unknown setting 'momentum'. Did you mean 'train.momentum'?"),
        ("TRAIN.RPN_BATCHSIZ=3", "unknown setting 'TRAIN.RPN_BATCHSIZ'. Did you mean 'TRAIN.RPN_BATCHSIZE'?"),
        ("min_size=800", "unknown setting 'min_size'. Did you mean 'detector.image.shorter_side'?"),
        ("lr=0.1", "unknown setting 'lr'. Did you mean 'train.lr'?"),
        ("epochs=3", "Did you mean 'train.epochs'?"),
        ("seed=3", "Did you mean 'train.seed'?"),
        ("device=cpu", "Did you mean 'train.device'?"),
        ("batch=3", "Did you mean 'train.batch_size'?"),
        ("train.names=3", "The classes are those of the data: frcnn reads their names from it."),
        ("train.imgsz=640", "unknown setting 'train.imgsz'. Did you mean 'detector.image.shorter_side'?"),
        ("fg_iou_thresh=0.6", "Did you mean 'train.rpn.positive_iou' or 'train.roi.positive_iou'?"),
        ("box_nms_thresh=0.4", "Did you mean 'detector.results.nms_threshold'?"),
        ("detector.test_proposal.min_size=8", "Did you mean 'detector.test_proposals.min_size'?"),
        ("train.rpn=3", "setting 'train.rpn' is a group; set one of its members, e.g. 'train.rpn.positive_iou'"),
        ("train.epochs", "'train.epochs': a setting is written KEY=VALUE"),
        ("train.epochs=[1", "setting 'train.epochs' = '[1': input should be a valid integer"),
        ("train.epochs=0", "setting 'train.epochs' = 0: input should be greater than or equal to 1"),
    ],
)
def test_wrong_overrides_are_explained(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        overridden(override)


def test_names_of_other_libraries_lead_to_settings() -> None:
    known = {key for key, _ in leaf_fields(Config)}
    assert {setting for settings in _OTHER_LIBRARIES.values() for setting in settings} <= known


# ------------------------------------------------------------------------------------------------- without any effect


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            ("detector.image.width=640",),
            "'detector.image.width' = 640 has no effect: it needs detector.image.resize=fit",
        ),
        (("train.rpn_epochs=3",), "'train.rpn_epochs' = 3 has no effect: it needs train.scheme=alternating"),
        (
            ("train.scheme=alternating", "train.epochs=3"),
            "'train.epochs' = 3 has no effect: it needs train.scheme=end_to_end; alternating uses train.rpn_epochs",
        ),
        (("train.patience=2",), "'train.patience' = 2 has no effect: it needs train.validate_every"),
        (("train.graph_type=pdf",), "'train.graph_type' = 'pdf' has no effect: it needs train.draw_graph=true"),
        (("base_model.fpn_channels=64",), "'base_model.fpn_channels' = 64 has no effect: it needs a feature pyramid"),
        (("detector.draw.save=false", "detector.draw.background=true"), "it needs detector.draw.save=true"),
        (("data.split=[0.8, 0.1, 0.1]", "data.val_fraction=0.1"), "it needs data.split and data.val_split to be null"),
    ],
)
def test_a_named_setting_without_effect_is_refused(named: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(overrides=named)


def test_with_what_it_needs_it_is_taken(tmp_path: Path) -> None:
    assert (
        make_config(overrides={"detector.image.resize": "fit", "detector.image.width": 640}).detector.image.width == 640
    )
    assert (
        make_config(base_model="resnet18-fpn", overrides=["base_model.fpn_channels=64"]).base_model.fpn_channels == 64
    )


def test_a_file_may_hold_settings_without_effect_and_says_so(tmp_path: Path) -> None:
    text = dump_yaml(make_config())
    assert "# pixels (unused: needs detector.image.resize=fit)" in text
    assert make_config(file=written(tmp_path, text)) == make_config()
