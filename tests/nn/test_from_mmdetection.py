"""mmdetection's detectors as ours: the detections of the oracle, which follows mmdetection's source, on real photos."""

import pprint
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles.mmdetection import CAFFE, Mmdetection, Rules, config_of
from oracles.random_weights import SOFT, calibrate, spread
from PIL import Image
from tiny import same_detections
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from frcnn.data.images import read_image
from frcnn.data.transforms import prepare_images
from frcnn.fast.optimize import optimize
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.from_mmdetection import from_mmdetection, read_config
from frcnn.nn.model_file import load_model, save_model

CLASSES = ("a", "b", "c", "d", "e")
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-2, 1e-4  # pixels, probability
SMALL = {"scale": (300, 224)}
CASES = {
    "pytorch": Rules(**SMALL),
    "caffe": Rules(**SMALL, **CAFFE),  # type: ignore[arg-type]
    "R18, two anchors, class-agnostic": Rules(
        depth=18, scales=(4, 8), agnostic=True, max_proposals=200, score_thr=0.02, max_per_img=60, **SMALL
    ),
}


def config_text(rules: Rules) -> str:
    """A config as mmdetection writes it: Python, with values that are no literals besides."""
    written = {name: pprint.pformat(value, sort_dicts=False) for name, value in config_of(rules).items()}
    model = written["model"].replace("{'type': 'FPN', ", "dict(type='FPN', ").replace("'num_outs': 5}", "num_outs=5)")
    model = model.replace("'out_channels': 256,", "out_channels=256,")
    return (
        "import os\n"
        f"open({'executed.txt'!r}, 'w')\n"
        "work_dir = os.environ['HOME']\n"
        f"model = {model}\n"
        f"test_pipeline = {written['test_pipeline']}\n"
        "test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))\n"
    )


@torch.no_grad()
def random_model(rules: Rules, photo: Image.Image) -> Mmdetection:
    torch.manual_seed(0)
    model = Mmdetection(rules).eval()
    norms: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(SOFT)
        if isinstance(module, BasicBlock):
            module.bn2.weight.fill_(SOFT)

    def run() -> object:
        return model(photo)

    calibrate(run, norms)
    head = model.roi_head.bbox_head
    spread(run, {model.rpn_head.rpn_cls: 1.0, model.rpn_head.rpn_reg: 0.2})
    model.rpn_head.rpn_reg.bias[2] -= 7  # boxes of one anchor shrink, as far as they may
    spread(run, {head.fc_cls: 0.8, head.fc_reg: 0.25})
    head.fc_reg.bias[3] -= 40  # and those of one class; the deltas are multiplied by 0.2
    return model


@pytest.fixture(scope="module")
def files(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos without loss, so that no two decoders differ: landscape, portrait, and one that is halved."""
    folder = tmp_path_factory.mktemp("photos")
    photos = sorted((shared / "datasets" / "grocery" / "testImages").glob("*.jpg"))
    paths = []
    for index, size in enumerate(((640, 480), (333, 500), (448, 448))):
        paths.append(folder / f"{index}.png")
        read_image(photos[index]).resize(size).save(paths[-1])
    return paths


@torch.no_grad()
def assert_same(theirs: Mmdetection, ours: FasterRCNN, file: Path) -> None:
    boxes, scores, classes = theirs(read_image(file))
    assert len(boxes) == theirs.rules.max_per_img
    assert len(classes.unique()) > 2
    assert scores.std() > 0.01
    inputs = [torch.from_numpy(array) for array in prepare_images([file], ours.settings.detector.resizing)]
    assert inputs[0].dtype == torch.uint8
    for model in (ours, optimize(ours)):
        found = model(*inputs)
        assert found.valid.all()
        same = same_detections(
            (found.boxes[0], found.scores[0], found.labels[0] - 1),
            (boxes, scores, classes),
            pixels=BOX_TOLERANCE,
            score=SCORE_TOLERANCE,
        )
        sure = scores > scores[-1] + SCORE_TOLERANCE  # the last ones may just miss the hundred
        assert sure.float().mean() > 0.9
        # Of random weights, two boxes may be so equally good that rounding, which differs between processors, decides.
        assert same[sure].any(dim=1).float().mean() > 0.97


@pytest.mark.parametrize("case", CASES)
def test_detections_are_those_of_the_oracle(
    case: str, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = CASES[case]
    theirs = random_model(rules, read_image(files[0]))
    (tmp_path / "config.py").write_text(config_text(rules))
    ours = from_mmdetection(theirs.state_dict(), tmp_path / "config.py", CLASSES)
    assert ours.settings == from_mmdetection(theirs.state_dict(), config_of(rules), CLASSES).settings
    assert ours.settings == from_mmdetection(theirs.state_dict(), config_text(rules), CLASSES).settings
    assert not (tmp_path / "executed.txt").exists()
    for file in files if case == "pytorch" else files[1:2]:
        assert_same(theirs, ours, file)
    save_model(ours, tmp_path / "model.safetensors")
    assert_same(theirs, load_model(tmp_path / "model.safetensors", device="cpu"), files[1])


@pytest.mark.parametrize("agnostic", [False, True])
def test_a_detector_of_one_class(agnostic: bool) -> None:
    """Its four rows of boxes do not tell whether they are class-specific."""
    rules = Rules(depth=18, classes=1, agnostic=agnostic)
    torch.manual_seed(0)
    given = Mmdetection(rules).state_dict()
    ours = from_mmdetection(given, config_of(rules), ["cup"])
    assert len(ours.roi_head.deltas.weight) == (4 if agnostic else 8)
    assert torch.equal(ours.roi_head.deltas.weight[-4:], given["roi_head.bbox_head.fc_reg.weight"])
    assert torch.equal(ours.roi_head.logits.weight[1], given["roi_head.bbox_head.fc_cls.weight"][0])


# ------------------------------------------------------------------------------------------------------------- messages

R18 = config_of(Rules(depth=18))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return Mmdetection(Rules(depth=18)).state_dict()


def changed(key: str, value: object) -> dict[str, Any]:
    """The config of R18 with another value."""

    def copied(part: Any) -> Any:
        return {name: copied(each) for name, each in part.items()} if isinstance(part, dict) else part

    config: dict[str, Any] = copied(R18)
    *groups, last = key.split(".")
    part = config
    for group in groups:
        part = part.setdefault(group, {})
    part[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", None, "has no `model` that can be read without running it"),
        ("model.type", "RetinaNet", r"model\.type is 'RetinaNet'; frcnn can only have 'FasterRCNN'"),
        ("model.backbone.depth", 20, r"are \('ResNet', 20, 1, 4\)"),
        ("model.backbone.dcn", {"type": "DCN"}, r"model\.backbone\.dcn is \{'type': 'DCN'\}; frcnn can only have None"),
        ("model.backbone.norm_cfg.type", "GN", r"model\.backbone\.norm_cfg\.type is 'GN'; .* 'BN' or 'SyncBN'"),
        ("model.neck.type", "PAFPN", r"model\.neck\.type is 'PAFPN'"),
        ("model.neck.upsample_cfg", {"mode": "bilinear"}, r"neck\.upsample_cfg\.mode is 'bilinear'; .* 'nearest'"),
        ("model.roi_head.bbox_roi_extractor.roi_layer.pool_mode", "max", r"roi_layer\.pool_mode is 'max'; .* 'avg'"),
        ("model.rpn_head.anchor_generator.strides", [8, 16], r"anchor_generator\.strides is \[8, 16\]"),
        ("model.rpn_head.loss_cls.use_sigmoid", False, r"rpn_head\.loss_cls\.use_sigmoid is False"),
        ("model.roi_head.type", "CascadeRoIHead", r"model\.roi_head\.type is 'CascadeRoIHead'"),
        ("model.roi_head.mask_head", {}, r"model\.roi_head\.mask_head is \{\}"),
        ("model.roi_head.bbox_head.num_classes", 80, r"the weights have 5 classes, but .*num_classes .* is 80"),
        ("model.test_cfg.rcnn.nms.type", "soft_nms", r"test_cfg\.rcnn\.nms\.type is 'soft_nms'; .* 'nms'"),
        ("model.test_cfg.rcnn", {}, r"model\.test_cfg\.rcnn\.score_thr is missing"),
        ("test_pipeline", [], "has no test_pipeline with a Resize"),
        ("test_pipeline", [{"type": "Resize", "scale": (300, 200)}], r"with keep_ratio=True"),
        (
            "test_pipeline",
            [{"type": "Resize", "scale": (300, 200), "keep_ratio": True, "backend": "pillow"}],
            r"backend of Resize is 'pillow'; frcnn can only have 'cv2'",
        ),
        ("model.data_preprocessor", {}, "no mean and std of images"),
        ("model.backbone.depth", 50, r"weights of mmdetection_resnet50_fpn: weights of another detector: "),
    ],
)
def test_what_frcnn_cannot_have_is_refused(key: str, value: object, message: str, weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        from_mmdetection(weights, changed(key, value), CLASSES)


def test_a_config_of_mmdetection_2(weights: dict[str, Tensor]) -> None:
    """There the pipeline normalizes."""
    old = changed("model.data_preprocessor", None)
    normalize = {"type": "Normalize", "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0], "to_rgb": False}
    steps = [{"type": "Resize", "keep_ratio": True}, normalize, {"type": "Pad", "size_divisor": 64}]
    aug = {"type": "MultiScaleFlipAug", "img_scale": (700, 500), "flip": False, "transforms": steps}
    del old["test_pipeline"]
    old["data"] = {"test": {"pipeline": [{"type": "LoadImageFromFile"}, aug]}}
    ours = from_mmdetection(weights, old, CLASSES, ["detector.results.max_detections=7"])
    image = ours.settings.detector.image
    assert (image.shorter_side, image.longer_side, image.divisor) == (500, 700, 64)
    assert ours.settings.base_model.mean == (3.0, 2.0, 1.0)
    assert ours.settings.base_model.std == (6.0, 5.0, 4.0)
    assert ours.settings.detector.results.max_detections == 7
    expected = weights["backbone.conv1.weight"].flip(1)
    assert torch.equal(ours.get_parameter("backbone.conv_layers.conv1.weight"), expected)


@pytest.mark.parametrize(
    "line",
    [
        "model['roi_head']['bbox_head']['fc_out_channels'] = 512",
        "model.update(type='FasterRCNN')",
        "for stage in model: model[stage] = None",
        "model = dict(backbone=dict(type='ResNet', **{'depth': 101}))",
        "model = {'type': 'FasterRCNN', **{'neck': None}}",
    ],
)
def test_a_value_that_only_running_the_config_tells_is_left_out(line: str) -> None:
    read = read_config(f"scale = 3\nmodel = dict(type='FasterRCNN', scale=scale)\n{line}\n")
    assert read == {"scale": 3}


def test_messages_about_weights_and_configs(weights: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not one of an mmdetection Faster R-CNN: it lacks roi_head"):
        from_mmdetection({}, R18, CLASSES)
    with pytest.raises(ValueError, match=r"classes: 2 names, but the weights have 5 classes"):
        from_mmdetection(weights, R18, ["a", "b"])
    with pytest.raises(ValueError, match=r"the weights have 5 classes, COCO has 80"):
        from_mmdetection(weights, R18)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py: no such config of mmdetection"):
        read_config(tmp_path / "nowhere.py")
    (tmp_path / "a.py").write_text("_base_ = ['b.py']\nmodel = dict()\n")
    with pytest.raises(ValueError, match=r"a\.py: is based on other files \(_base_\); give the complete config"):
        read_config(tmp_path / "a.py")
    for text in ("model = (\n", "x = " + "(" * 100_000 + "\n", "a = '\0'\n", "x = " + "-" * 100_000 + "1\n"):
        with pytest.raises(ValueError, match="config: not a config of mmdetection in Python"):
            read_config(text)
