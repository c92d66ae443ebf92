"""detectron2's detectors as ours: the detections of the oracle, which follows detectron2's source, on real photos."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from oracles.detectron2 import FPN_CONFIG, Detectron2, FrozenBatchNorm2d, Rules, config_of, resize_shortest_edge
from oracles.random_weights import SOFT, calibrate, spread
from PIL import Image
from tiny import same_detections
from torch import Tensor, nn

from frcnn.data.images import read_image, read_to_resize
from frcnn.data.transforms import prepare_images
from frcnn.fast.optimize import optimize
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.from_detectron2 import from_detectron2, read_config
from frcnn.nn.model_file import load_model, save_model
from frcnn.resizing import Resizing, input_size

CLASSES = ("a", "b", "c", "d", "e")
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-2, 1e-4  # pixels, probability
SMALL = {"min_size": 224, "max_size": 300}


@torch.no_grad()
def random_model(rules: Rules, photo: Image.Image) -> Detectron2:
    torch.manual_seed(0)
    model = Detectron2(rules).eval()
    norms: list[nn.Module] = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    for name, module in model.named_modules():
        if name.endswith("conv2.norm" if rules.depth == 18 else "conv3.norm") and ".res" in name:
            module.weight.fill_(SOFT)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)

    def run() -> object:
        return model(photo)

    calibrate(run, norms)
    head, predictor = model.proposal_generator.rpn_head, model.roi_heads.box_predictor
    spread(run, {head.objectness_logits: 1.0, head.anchor_deltas: 0.2})
    spread(run, {predictor.cls_score: 0.8, predictor.bbox_pred: 0.25})
    return model


@pytest.fixture(scope="module")
def files(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos without loss, so that no two decoders differ: landscape, portrait, and one whose size is an exact half."""
    folder = tmp_path_factory.mktemp("photos")
    photos = sorted((shared / "datasets" / "grocery" / "testImages").glob("*.jpg"))
    paths = []
    for index, size in enumerate(((640, 480), (333, 500), (321, 320))):
        paths.append(folder / f"{index}.png")
        read_image(photos[index]).resize(size).save(paths[-1])
    return paths


@torch.no_grad()
def assert_same(theirs: Detectron2, ours: FasterRCNN, file: Path) -> None:
    boxes, scores, classes = theirs(read_image(file))
    assert len(boxes) == theirs.rules.topk
    assert len(classes.unique()) > 2
    assert scores.std() > 0.01
    inputs = [torch.from_numpy(array) for array in prepare_images([file], ours.settings.detector.resizing)]
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


CASES = {
    "R50-FPN": Rules(**SMALL),
    "R101-FPN": Rules(depth=101, **SMALL),
    "R50-C4": Rules(pyramid=False, post_nms_topk=150, **SMALL),
    "stride in 3x3, RGB": Rules(
        stride_in_1x1=False, bgr=False, pixel_mean=(120, 110, 100), pixel_std=(58.0, 57.0, 56.0), **SMALL
    ),
    "R18-FPN, convolutions in the head": Rules(
        depth=18,
        norm="GN",
        convs=2,
        rpn_convs=2,
        agnostic=True,
        post_nms_topk=150,
        score_thresh=0.02,
        nms_thresh=0.4,
        topk=60,
        **SMALL,
    ),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case == "R101-FPN" else []) for case in CASES]
)
def test_detections_are_those_of_the_oracle(case: str, files: list[Path], tmp_path: Path) -> None:
    rules = CASES[case]
    theirs = random_model(rules, read_image(files[0]))
    config = config_of(rules)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    ours = from_detectron2(theirs.state_dict(), config, CLASSES)
    for file in files if case in ("R50-FPN", "R50-C4") else files[1:2]:
        assert_same(theirs, ours, file)
    save_model(ours, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors", device="cpu")
    assert again.settings == from_detectron2(theirs.state_dict(), tmp_path / "config.yaml", CLASSES).settings
    assert_same(theirs, again, files[1])


@given(
    size=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    short=st.integers(1, 1000),
    longest=st.integers(1, 1500),
)
def test_the_size_is_detectron2s(size: tuple[int, int], short: int, longest: int) -> None:
    class Frame:
        """Of a photo only its size counts."""

        def __init__(self, width: int, height: int) -> None:
            self.size = width, height

        def resize(self, new: tuple[int, int], _: object) -> "Frame":
            return Frame(*new)

    width, height = resize_shortest_edge(Frame(*size), short, longest).size  # type: ignore[arg-type]
    settings = Resizing("shorter_side", shorter_side=short, longer_side=longest, rounding="detectron2")
    assert input_size(size[::-1], settings) == (max(1, height), max(1, width))


def test_halves_are_rounded_up() -> None:
    settings = Resizing("shorter_side", shorter_side=800, longer_side=1333, rounding="detectron2")
    assert input_size((321, 320), settings) == (803, 800)
    assert input_size((321, 320), settings._replace(rounding="even")) == (802, 800)


def test_a_large_jpeg_is_decoded_whole(tmp_path: Path) -> None:
    Image.effect_noise((800, 1600), 60).convert("RGB").save(tmp_path / "noise.jpg")
    settings = Resizing("shorter_side", shorter_side=64, longer_side=128)
    assert read_to_resize(tmp_path / "noise.jpg", settings)[0].size == (200, 400)
    whole = read_to_resize(tmp_path / "noise.jpg", settings._replace(reduced_decoding=False))[0]
    assert whole.size == (800, 1600)


@pytest.mark.parametrize("agnostic", [False, True])
def test_a_detector_of_one_class(agnostic: bool) -> None:
    """Its four rows of boxes do not tell whether they are class-specific."""
    rules = Rules(depth=18, classes=1, agnostic=agnostic)
    torch.manual_seed(0)
    given = Detectron2(rules).state_dict()
    ours = from_detectron2(given, config_of(rules), ["cup"])
    assert len(ours.roi_head.deltas.weight) == (4 if agnostic else 8)
    assert torch.equal(ours.roi_head.deltas.weight[-4:], given["roi_heads.box_predictor.bbox_pred.weight"])
    assert torch.equal(ours.roi_head.logits.weight[1], given["roi_heads.box_predictor.cls_score.weight"][0])


# ------------------------------------------------------------------------------------------------------------- messages


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return Detectron2(Rules(depth=18)).state_dict()


R18 = config_of(Rules(depth=18))


def changed(key: str, value: object) -> dict[str, Any]:
    """The config of R18 with another value."""
    config: dict[str, Any] = yaml.safe_load(yaml.safe_dump(R18))
    *groups, last = key.split(".")
    part = config
    for group in groups:
        part = part.setdefault(group, {})
    part[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("VERSION", 1, r"VERSION is 1; frcnn can only have 2"),
        ("MODEL.META_ARCHITECTURE", "RetinaNet", r"MODEL\.META_ARCHITECTURE is 'RetinaNet'; .* 'GeneralizedRCNN'"),
        ("MODEL.MASK_ON", True, r"MODEL\.MASK_ON is True"),
        ("MODEL.RESNETS.NORM", "GN", r"MODEL\.RESNETS\.NORM is 'GN'; .* 'FrozenBN' or 'BN'"),
        ("MODEL.RESNETS.RES5_DILATION", 2, r"MODEL\.RESNETS\.RES5_DILATION is 2"),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True], r"DEFORM_ON_PER_STAGE is \[False, True"),
        ("MODEL.RESNETS.DEPTH", 20, r"MODEL\.RESNETS\.DEPTH, .* are \(20, 1, 64\)"),
        ("MODEL.RESNETS.DEPTH", "deep", r"MODEL\.RESNETS\.DEPTH is 'deep'; it must be like 50"),
        ("MODEL.FPN.FUSE_TYPE", "avg", r"MODEL\.FPN\.FUSE_TYPE is 'avg"),
        ("MODEL.BACKBONE.NAME", "build_vit", r"MODEL\.BACKBONE\.NAME is 'build_vit"),
        ("MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator", r"ANCHOR_GENERATOR\.NAME is 'Rotated"),
        ("MODEL.ANCHOR_GENERATOR.OFFSET", 0.5, r"ANCHOR_GENERATOR\.OFFSET is 0\.5"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64]], r"anchors: sizes for 2 .* 5 feature maps"),
        ("MODEL.RPN.CONV_DIMS", [256, 128], r"MODEL\.RPN\.CONV_DIMS is \[256, 128\]; frcnn has equal widths only"),
        ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", r"MODEL\.ROI_HEADS\.NAME is 'CascadeROIHeads"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign", r"POOLER_TYPE is 'ROIAlign'; frcnn can only have 'ROIAlignV2'"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 80, r"the weights have 5 classes, but MODEL\.ROI_HEADS\.NUM_CLASSES .* is 80"),
        ("INPUT.MIN_SIZE_TEST", 0, r"INPUT\.MIN_SIZE_TEST is 0: images are not resized"),
        ("INPUT.FORMAT", "L", r"INPUT\.FORMAT is 'L'; frcnn can only have 'BGR' or 'RGB'"),
        ("MODEL.RESNETS.DEPTH", 50, r"weights of detectron2_resnet50_fpn: weights of another detector: "),
    ],
)
def test_what_frcnn_cannot_have_is_refused(key: str, value: object, message: str, weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        from_detectron2(weights, changed(key, value), CLASSES)


def test_messages_about_weights_and_classes(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"not one of a detectron2 Faster R-CNN: it lacks proposal_generator"):
        from_detectron2({}, R18, CLASSES)
    with pytest.raises(ValueError, match=r"classes: 2 names, but the weights have 5 classes"):
        from_detectron2(weights, R18, ["a", "b"])
    with pytest.raises(ValueError, match=r"the weights have 5 classes, COCO has 80; name the classes"):
        from_detectron2(weights, R18)
    with pytest.raises(ValueError, match=r"they have backbone\.bottom_up\.extra, which the model lacks"):
        from_detectron2({**weights, "backbone.bottom_up.extra": torch.zeros(1)}, R18, CLASSES)


def test_older_files_have_constants_too(weights: dict[str, Tensor]) -> None:
    older = {
        **weights,
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.zeros(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    }
    assert from_detectron2(older, R18, CLASSES).classes == CLASSES


def test_a_config_is_read_with_those_it_is_based_on(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "fpn.yaml").write_text(yaml.safe_dump(FPN_CONFIG))
    (tmp_path / "mine.yaml").write_text(
        '_BASE_: "base/fpn.yaml"\n'
        "MODEL:\n"
        "  PIXEL_MEAN: [1.0, 2.0, 3.0]\n"
        "  RESNETS: {DEPTH: 18}\n"
        "  ROI_HEADS: {NUM_CLASSES: 5}\n"
        "  ROI_BOX_HEAD:\n"
        '    BBOX_REG_WEIGHTS: "(5.0, 5.0, 2.0, 2.0)"\n'
        "  RPN: {BBOX_REG_WEIGHTS: !!python/tuple [1.0, 1.0, 1.0, 1.0]}\n"
    )
    ours = from_detectron2(weights, tmp_path / "mine.yaml", CLASSES, ["detector.results.max_detections=7"])
    assert ours.settings.base_model.mean == (3.0, 2.0, 1.0)
    assert ours.settings.detector.box_deltas.stds == (0.2, 0.2, 0.5, 0.5)
    assert ours.settings.detector.test_proposals.pre_nms_top_n == 1000
    assert ours.settings.detector.results.max_detections == 7
    assert ours.settings.base_model.fc_channels == (1024, 1024)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "_BASE_: nowhere.yaml", r"nowhere\.yaml: no such config of detectron2"),
        ("a.yaml", "_BASE_: a.yaml", r"a\.yaml: _BASE_ 'a\.yaml': must be the path of one file"),
        ("a.yaml", "_BASE_: detectron2://a", r"_BASE_ 'detectron2://a': must be the path of one file"),
        ("a.yaml", "MODEL: !!python/object/apply:os.system [touch executed]", r"a\.yaml: not a YAML file, or .* code"),
        ("a.yaml", "[1", r"a\.yaml: not a YAML file"),
        ("a.yaml", "text", r"a\.yaml: not a config of detectron2"),
        ("a.py", "model = 1", r"a\.py: a config of detectron2 that frcnn reads ends in \.yaml"),
    ],
)
def test_messages_name_the_error_in_a_config(
    name: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_config(tmp_path / name)
    assert not (tmp_path / "executed").exists()
