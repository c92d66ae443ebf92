"""The config files of CNTK's tutorial become our settings, and nothing in them runs."""

import csv
import re
from pathlib import Path

import pytest

from frcnn.cli import main
from frcnn.config import Config, make_config
from frcnn.config.cntk_files import read_config_files

DETECTOR = """
import os
from easydict import EasyDict as edict
__C = edict()
cfg = __C
__C.CNTK = edict()
cfg["CNTK"].FAST_MODE = True  # another way to write it
__C.CNTK.E2E_MAX_EPOCHS = 7
__C.CNTK.E2E_LR_PER_SAMPLE = [0.001] * 4 + [0.0001] * 3
__C.IMAGE_WIDTH = 600
__C.TRAIN = edict()
__C.TRAIN.USE_FLIPPED = False
__C.BBOX_NORMALIZE_STDS = (0.1, 0.1, 0.2, 0.3)
__C.USE_GPU_NMS = True
"""
ALEXNET = """
__C.MODEL.BASE_MODEL = "AlexNet"
__C.MODEL.BASE_MODEL_FILE = "AlexNet.model"
__C.MODEL.IMG_PAD_COLOR = [114, 114, 114]
__C.MODEL.FEATURE_NODE_NAME = "features"
__C.MODEL.LAST_CONV_NODE_NAME = "conv5.y"
__C.MODEL.START_TRAIN_CONV_NODE_NAME = __C.MODEL.FEATURE_NODE_NAME
__C.MODEL.POOL_NODE_NAME = "pool3"
__C.MODEL.LAST_HIDDEN_NODE_NAME = "h2_d"
__C.MODEL.FEATURE_STRIDE = 16
__C.MODEL.RPN_NUM_CHANNELS = 256
__C.MODEL.ROI_DIM = 6
"""
VGG16 = """
__C.MODEL.BASE_MODEL = "VGG16"
__C.MODEL.FEATURE_NODE_NAME = "data"
__C.MODEL.LAST_CONV_NODE_NAME = "relu5_3"
__C.MODEL.START_TRAIN_CONV_NODE_NAME = "pool2"
__C.MODEL.POOL_NODE_NAME = "pool5"
__C.MODEL.LAST_HIDDEN_NODE_NAME = "drop7"
__C.MODEL.FEATURE_STRIDE = 16
__C.MODEL.RPN_NUM_CHANNELS = 512
__C.MODEL.ROI_DIM = 7
"""
DATA = """
__C.DATA.DATASET = "Grocery"
__C.DATA.PROPOSAL_LAYER_SCALES = [4, 8, 12]
__C.CNTK.E2E_MAX_EPOCHS = 9
"""


def write(folder: Path, *texts: str) -> list[Path]:
    files = [folder / f"{number}_config.py" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    return files


def config_of(folder: Path, *texts: str) -> Config:
    return make_config(recipe="tutorial", overrides=read_config_files(write(folder, *texts)).settings)


def test_three_files_become_one_configuration(tmp_path: Path) -> None:
    config = config_of(tmp_path, DETECTOR, ALEXNET, DATA)
    assert config.train.lr == (0.001,) * 4 + (0.0001,) * 3
    assert (config.train.flip, config.train.smoke_test) == (False, True)
    assert (config.detector.image.resize, config.detector.image.width) == ("fit", 600)
    assert config.detector.box_deltas.stds == (0.1, 0.1, 0.2, 0.3)
    assert config.detector.anchors.scales == (4, 8, 12)
    assert config.data.name == "Grocery"
    assert config.train.epochs == 9  # of the last file


@pytest.mark.parametrize(("name", "text"), [("alexnet", ALEXNET), ("vgg16", VGG16)])
def test_the_tutorials_base_models_are_cut_where_ours_are(tmp_path: Path, name: str, text: str) -> None:
    expected = make_config(recipe="tutorial", base_model=name, overrides=["base_model.stride=16"])
    assert config_of(tmp_path, text) == expected


def test_every_parameter_of_the_tutorial_is_read(tmp_path: Path, shared: Path) -> None:
    with (shared / "tutorial" / "parameters.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    values = {row["tutorial name"]: re.sub(r" \(\w+\)$", "", row["tutorial value"].split(";")[0]) for row in rows}
    lines = []
    for name, value in values.items():
        is_text = re.fullmatch(r"[A-Za-z./][\w./-]*", value) and value not in ("True", "False")
        lines.append(f"__C.{name} = {value!r}" if is_text else f"__C.{name} = {value}")
    read = read_config_files(write(tmp_path, "\n".join(lines)))
    assert {*read.settings, "MODEL.BASE_MODEL_FILE", "MODEL.IMG_PAD_COLOR"} == set(values)
    assert config_of(tmp_path, "\n".join(lines)).train.momentum == 0.9


def test_what_frcnn_does_not_use_is_listed(tmp_path: Path) -> None:
    unused = read_config_files(write(tmp_path, DETECTOR, ALEXNET)).unused
    names = ["USE_GPU_NMS = True", "MODEL.BASE_MODEL_FILE = 'AlexNet.model'", "MODEL.IMG_PAD_COLOR = [114, 114, 114]"]
    assert [line.partition(": ")[0] for line in unused] == names


def test_targets_that_are_not_normalized_have_no_means_and_deviations(tmp_path: Path) -> None:
    """The tutorial's file sets both below the switch; there, the switch decides."""
    text = """
__C.BBOX_NORMALIZE_TARGETS = False
__C.BBOX_NORMALIZE_MEANS = [0.0, 0.0, 0.0, 0.0]
__C.BBOX_NORMALIZE_STDS = [0.1, 0.1, 0.2, 0.2]
"""
    deltas = config_of(tmp_path, text).detector.box_deltas
    assert (deltas.means, deltas.stds) == ((0, 0, 0, 0), (1, 1, 1, 1))
    unused = read_config_files(write(tmp_path, text)).unused
    assert unused[1] == "BBOX_NORMALIZE_STDS = [0.1, 0.1, 0.2, 0.2]: BBOX_NORMALIZE_TARGETS is False"
    assert config_of(tmp_path, text.replace("False", "True")).detector.box_deltas.stds == (0.1, 0.1, 0.2, 0.2)


def test_no_code_runs(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    text = f"open({str(touched)!r}, 'w')\ndef f():\n    __C.RND_SEED = 4\n__C.RND_SEED = 5\nraise SystemExit\n"
    assert config_of(tmp_path, text).train.seed == 5
    assert not touched.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n__C.RND_SEED = int('3')", r"0_config.py, line 2: RND_SEED = int\('3'\): .* write it so"),
        ("if True:\n    __C.RND_SEED = 3", r"0_config.py, line 2: RND_SEED is not set by a plain line"),
        ("__C.RND_SEED += 3", r"line 1: RND_SEED is not set by a plain line"),
        ("__C.RND_SEED, __C.IMAGE_WIDTH = 3, 4", r"line 1: RND_SEED is not set by a plain line"),
        ("__C.RND_SEED = = 3", r"0_config.py: not a config file of CNTK's tutorial"),
        ("__C.RND_SEED = " + "(" * 500, r"0_config.py: not a config file of CNTK's tutorial"),
        (ALEXNET.replace("conv5.y", "conv4.y"), r"LAST_CONV_NODE_NAME = 'conv4.y': frcnn knows the nodes features, "),
        (ALEXNET.replace("AlexNet", "ResNet"), r"'features': frcnn knows the nodes of alexnet and vgg16; remove"),
    ],
)
def test_a_file_that_cannot_be_read_as_data_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_config_files(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none_config\.py: no such config file"):
        read_config_files([tmp_path / "none_config.py"])


def test_the_command_prints_yaml_that_trains_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, DETECTOR, ALEXNET, DATA)
    assert main(["config", "--from-cntk", *map(str, files), "--set", "train.epochs=3"]) == 0
    printed = capsys.readouterr()
    (tmp_path / "mine.yaml").write_text(printed.out, encoding="utf-8")
    settings = read_config_files(files).settings | {"train.epochs": 3}
    assert make_config(file=tmp_path / "mine.yaml") == make_config(recipe="tutorial", overrides=settings)
    assert "not used: USE_GPU_NMS = True: frcnn has no such setting\n" in printed.err
