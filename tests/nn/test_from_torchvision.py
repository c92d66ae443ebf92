"""torchvision's detectors as ours: the same detections, on real photos, from the same weights.

The weights are random (those trained on COCO must be downloaded), made so that hundreds of boxes survive: batch norm
has the statistics of a photo, and the last layers are scaled until their scores spread. The branches of residual blocks
speak softly, or fifty random layers would blow up the last bit of float32 into more than the tolerances. A quarter of
the channels is almost silent, as in trained models: their variance is so small that the epsilon of batch norm counts.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.random_weights import spread
from PIL import Image
from tiny import same_detections
from torch import Tensor, nn
from torchvision.models import detection, get_model_weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms import Normalize

from frcnn.config import make_config
from frcnn.data.images import read_image
from frcnn.data.transforms import frame, read_resized
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.from_torchvision import detector_name, from_torchvision
from frcnn.nn.model_file import load_model, save_model
from frcnn.nn.weights import coco_url
from frcnn.types import DetectionTensors

NAMES = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
)
BOX_TOLERANCE = 1e-2  # pixels
SCORE_TOLERANCE = 1e-4
SIZES = ((480, 640), (700, 500), (333, 612))  # (height, width); the last one is scaled up past 1333 or 640


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Image.Image]:
    files = sorted((shared / "datasets" / "grocery" / "testImages").glob("*.jpg"))[: len(SIZES)]
    return [read_image(file).resize(size[::-1]) for file, size in zip(files, SIZES, strict=True)]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name.endswith("v2") else []) for name in NAMES],
)
def pair(request: pytest.FixtureRequest, photos: list[Image.Image]) -> tuple[nn.Module, FasterRCNN]:
    """Made with weights=COCO_V1: torchvision then sets the epsilon of one of the four to 0."""
    eps = 0.0 if request.param == "fasterrcnn_resnet50_fpn" else 1e-5
    theirs = random_detector(request.param, photos[1], eps=eps)
    if "mobilenet" in request.param:
        return theirs, from_torchvision(theirs)
    return theirs, from_torchvision(theirs.state_dict(), request.param)


def tensor(photo: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_proposals_are_chosen_as_torchvision_does(name: str, training: bool) -> None:
    theirs = detection.__dict__[name](weights=None, weights_backbone=None, num_classes=2).rpn.train(training)
    settings = make_config(base_model=name).detector
    ours = settings.train_proposals if training else settings.test_proposals
    assert (ours.pre_nms_top_n, ours.post_nms_top_n) == (theirs.pre_nms_top_n(), theirs.post_nms_top_n())
    assert (ours.nms_threshold, ours.score_threshold) == (theirs.nms_thresh, theirs.score_thresh)
    assert ours.min_size == theirs.min_size


def random_detector(name: str, photo: Image.Image, *, eps: float | None = None, **numbers: object) -> nn.Module:
    """One of torchvision's four."""
    torch.manual_seed(0)
    return randomized(detection.__dict__[name](weights=None, weights_backbone=None, **numbers), photo, eps=eps)


@torch.no_grad()
def randomized(model: nn.Module, photo: Image.Image, *, eps: float | None = None) -> nn.Module:
    """
    Args:
        eps: of frozen batch norm in the backbone, as torchvision makes it for pretrained weights; None: not frozen.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.eval()
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(0.2)
        if isinstance(module, BasicBlock):
            module.bn2.weight.fill_(0.2)
    for layer in model.backbone.body.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight[::4] *= 0.01
    for module in norms:
        module.train()
        module.momentum = 1.0
    model([tensor(photo)])
    model.eval()
    if eps is not None:
        freeze(model.backbone.body, eps)
    spread(lambda: model([tensor(photo)]), {model.rpn.head.cls_logits: 1.0, model.rpn.head.bbox_pred: 0.2})
    predictor = model.roi_heads.box_predictor
    spread(lambda: model([tensor(photo)]), {predictor.cls_score: 0.8, predictor.bbox_pred: 0.25})
    return model


def freeze(body: nn.Module, eps: float) -> None:
    for name, norm in list(body.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(norm.num_features, eps=eps)
            frozen.load_state_dict(norm.state_dict())
            parent, _, last = name.rpartition(".")
            setattr(body.get_submodule(parent), last, frozen)


@torch.no_grad()
def detect(model: FasterRCNN, photos: list[Image.Image]) -> DetectionTensors:
    settings = model.settings.detector.resizing
    sizes = [(photo.height, photo.width) for photo in photos]
    return model(*map(torch.from_numpy, frame([read_resized(photo, settings)[0] for photo in photos], sizes, settings)))


@torch.no_grad()
@pytest.mark.parametrize("chosen", [[0], [1, 2]])
def test_detections_are_torchvisions(
    pair: tuple[nn.Module, FasterRCNN], photos: list[Image.Image], chosen: list[int]
) -> None:
    assert_same(*pair, [photos[i] for i in chosen])


def assert_same(theirs: nn.Module, ours: FasterRCNN, photos: list[Image.Image], count: int = 100) -> None:
    actual = detect(ours, photos)
    for i, expected in enumerate(theirs([tensor(photo) for photo in photos])):
        assert len(expected["boxes"]) == actual.valid[i].sum() == count
        assert len(expected["labels"].unique()) > 5
        assert expected["scores"].std() > 0.01
        sure = expected["scores"] > expected["scores"][-1] + SCORE_TOLERANCE  # the last ones may just miss the hundred
        assert sure.sum() > 0.9 * count
        same = same_detections(
            (actual.boxes[i], actual.scores[i], actual.labels[i]),
            (expected["boxes"], expected["scores"], expected["labels"]),
            pixels=BOX_TOLERANCE,
            score=SCORE_TOLERANCE,
        )
        # Of random weights, two boxes may be so equally good that rounding, which differs between processors, decides.
        assert same[sure].any(dim=1).float().mean() > 0.97


@torch.no_grad()
def test_proposals_are_torchvisions(pair: tuple[nn.Module, FasterRCNN], photos: list[Image.Image]) -> None:
    """Hundreds of boxes: more than the detections, of which there are at most 100."""
    theirs, ours = pair
    settings = ours.settings.detector.resizing
    arrays = frame([read_resized(photos[1], settings)[0]], [(photos[1].height, photos[1].width)], settings)
    inputs = map(torch.from_numpy, arrays)
    actual, _ = ours.propose_and_classify(*inputs)
    images, _ = theirs.transform([tensor(photos[1])])
    expected, _ = theirs.rpn(images, theirs.backbone(images.tensors))
    assert len(expected[0]) >= 100
    boxes = actual.boxes[0][actual.valid[0]]
    distance = (boxes - expected[0][:, None]).abs().amax(dim=2).amin(dim=1)
    assert len(boxes) == len(expected[0])
    assert (distance < BOX_TOLERANCE).float().mean() > 0.98  # all but those at the edge of being the best


@pytest.mark.parametrize("name", NAMES)
def test_addresses_of_the_weights_are_torchvisions(name: str) -> None:
    assert coco_url(make_config(base_model=name).base_model) == get_model_weights(name).COCO_V1.url


# ---------------------------------------------------------------------------------------------- what no state dict says

SMALL = {"min_size": 224, "max_size": 300}  # the input of most tests: a second instead of five
RESNET50 = "fasterrcnn_resnet50_fpn"
OTHER_NUMBERS = {
    "min_size": (320, 200),  # in evaluation, the last one
    "max_size": 290,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.3, 0.2, 0.1],
    "size_divisible": 64,
    "rpn_pre_nms_top_n_test": 150,
    "rpn_post_nms_top_n_test": 300,
    "rpn_nms_thresh": 0.6,
    "rpn_score_thresh": 0.1,
    "box_score_thresh": 0.02,
    "box_nms_thresh": 0.4,
    "box_detections_per_img": 60,
    "bbox_reg_weights": (8.0, 8.0, 4.0, 4.0),
    "rpn_anchor_generator": AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.4, 1.0, 2.0, 3.0),) * 5),
}


@torch.no_grad()
@pytest.mark.parametrize("eps", [None, 0.0, 1e-5])
def test_a_model_brings_its_epsilon(eps: float | None, photos: list[Image.Image], tmp_path: Path) -> None:
    """Made without weights (batch norm that is not frozen), with weights=COCO_V1, and with weights_backbone."""
    theirs = random_detector(RESNET50, photos[1], eps=eps, **SMALL)
    ours = from_torchvision(theirs)
    assert_same(theirs, ours, [photos[0]])
    save_model(ours, tmp_path / "model.safetensors")
    assert_same(theirs, load_model(tmp_path / "model.safetensors", device="cpu"), [photos[0]])


@torch.no_grad()
def test_the_epsilon_of_a_state_dict(photos: list[Image.Image]) -> None:
    """Batch norm that was never frozen shows it: its epsilon is known. Else it is assumed, or given."""
    small = {"detector.image.shorter_side": 224, "detector.image.longer_side": 300}
    theirs = random_detector(RESNET50, photos[1], **SMALL)
    assert_same(theirs, from_torchvision(theirs.state_dict(), settings=small), [photos[0]])
    freeze(theirs.backbone.body, 1e-5)
    given = from_torchvision(theirs.state_dict(), settings={**small, "base_model.batch_norm_eps": 1e-5})
    assert_same(theirs, given, [photos[0]])
    assumed = from_torchvision(theirs.state_dict(), settings=small)
    with pytest.raises(AssertionError):
        assert_same(theirs, assumed, [photos[0]])
    freeze_as_coco = [module for module in theirs.modules() if isinstance(module, FrozenBatchNorm2d)]
    for module in freeze_as_coco:
        module.eps = 0.0
    assert_same(theirs, assumed, [photos[0]])


@torch.no_grad()
def test_a_model_brings_its_numbers(photos: list[Image.Image]) -> None:
    theirs = random_detector(RESNET50, photos[1], eps=1e-5, **OTHER_NUMBERS)
    ours = from_torchvision(theirs)
    assert_same(theirs, ours, [photos[1]], count=60)
    assert ours.settings.detector.train_proposals.pre_nms_top_n == 2000


@torch.no_grad()
def test_detecto_normalizes_twice(photos: list[Image.Image]) -> None:
    """Two normalizations are one, with the numbers of docs/migrate-detecto.md."""
    page = Path(__file__, "../../../docs/migrate-detecto.md").resolve().read_text(encoding="utf-8")
    mean, std = (
        [float(number) for number in re.findall(r"[\d.]+", re.findall(rf'"base_model.{name}": \[(.*)\]', page)[0])]
        for name in ("mean", "std")
    )
    torch.manual_seed(0)
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    model.register_forward_pre_hook(lambda _, inputs: (list(map(normalize, inputs[0])),))
    theirs = randomized(model, photos[1])
    settings = {"base_model.mean": mean, "base_model.std": std}
    assert_same(theirs, from_torchvision(theirs.state_dict(), NAMES[3], settings=settings), [photos[1]])


@torch.no_grad()
@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("resnet18", None),
        pytest.param("resnet101", None, marks=pytest.mark.slow),
        pytest.param("resnext50_32x4d", None, marks=pytest.mark.slow),
        ("resnet18", [2, 3, 4]),
    ],
)
def test_pyramids_on_other_resnets(backbone: str, layers: list[int] | None, photos: list[Image.Image]) -> None:
    torch.manual_seed(0)
    body = resnet_fpn_backbone(backbone_name=backbone, weights=None, norm_layer=nn.BatchNorm2d, returned_layers=layers)
    numbers: dict[str, object] = dict(SMALL)
    if layers is not None:
        numbers["rpn_anchor_generator"] = AnchorGenerator(((32, 64),) * 4, ((0.5, 1.0, 2.0),) * 4)
        numbers["box_roi_pool"] = MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2)
    theirs = randomized(detection.FasterRCNN(body, num_classes=7, **numbers), photos[1], eps=1e-5)
    ours = from_torchvision(theirs, classes=list("abcdef"))
    assert_same(theirs, ours, [photos[0]])
    if layers is None:
        assert ours.settings.base_model.name == f"fasterrcnn_{backbone}_fpn"


@pytest.mark.parametrize("version", ["", "_v2"])
@pytest.mark.parametrize("backbone", ["resnet34", "resnet50", "resnet152", "wide_resnet50_2", "resnext101_32x8d"])
def test_the_layers_say_which_detector_it_is(backbone: str, version: str) -> None:
    body = "backbone.body.layer1.0.conv{}.weight"
    with torch.device("meta"):
        layers = resnet_fpn_backbone(backbone_name=backbone, weights=None)
    tensors = {f"backbone.{name}": value for name, value in layers.state_dict().items()}
    if version:
        tensors["backbone.fpn.inner_blocks.0.1.weight"] = tensors[body.format(1)]
    assert detector_name(tensors) == f"fasterrcnn_{backbone}_fpn{version}"


def test_other_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="those of no detector that frcnn knows"):
        detector_name({"backbone.0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"a ResNet of \(1, 0, 0, 0\) blocks that frcnn does not know"):
        detector_name({"backbone.body.layer1.0.conv2.weight": torch.zeros(64, 64, 3, 3)})


@pytest.fixture(scope="module")
def tiny_theirs() -> nn.Module:
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    return detection.FasterRCNN(backbone, num_classes=3).eval()


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("transform", "fixed_size", (300, 300), r"fixed_size is \(300, 300\); frcnn can only have None"),
        ("roi_heads.box_roi_pool", "sampling_ratio", 0, r"sampling_ratio of box_roi_pool is 0; frcnn can only have 2"),
        ("roi_heads.box_roi_pool", "output_size", (7, 14), r"output_size of box_roi_pool is \(7, 14\); .* square"),
        ("roi_heads.box_roi_pool", "featmap_names", ["0"], r"featmap_names of box_roi_pool is \['0'\]"),
        ("roi_heads.box_roi_pool", "canonical_scale", 112, r"canonical_scale and canonical_level is \(112, 4\)"),
        ("rpn", "min_size", 16, r"min_size of the RPN is 16; frcnn can only have at most 0\.01"),
        ("backbone.body.bn1", "eps", 1e-3, r"epsilons of batch norm in the backbone is \{.*\}; .* one number"),
        (
            "backbone.fpn",
            "extra_blocks",
            LastLevelP6P7(256, 256),
            r"extra_blocks is LastLevelP6P7; .* LastLevelMaxPool",
        ),
        ("rpn.anchor_generator", "sizes", ((32,), (64,), (128,), (256,), (300,)), r"anchors: sizes .*\[300\].* stride"),
        ("rpn.anchor_generator", "sizes", ((32,),) * 3, r"anchors: sizes for 3 and aspect ratios for 5 feature maps"),
        ("rpn.anchor_generator", "aspect_ratios", ((1.0,),) * 4 + ((2.0,),), r"aspect ratios .* the same on all"),
    ],
)
def test_what_frcnn_cannot_have_is_refused(
    tiny_theirs: nn.Module, part: str, name: str, value: object, message: str
) -> None:
    changed = tiny_theirs.get_submodule(part)
    usual = getattr(changed, name)
    try:
        setattr(changed, name, value)
        with pytest.raises(ValueError, match=message):
            from_torchvision(tiny_theirs, classes=["a", "b"])
    finally:
        setattr(changed, name, usual)
    assert from_torchvision(tiny_theirs, classes=["a", "b"]).classes == ("a", "b")


def test_other_models_are_refused(tiny_theirs: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"torch\.nn\.modules\.linear\.Linear is no Faster R-CNN of torchvision"):
        from_torchvision(nn.Linear(1, 1))
    with torch.device("meta"):
        masks = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    with pytest.raises(ValueError, match="MaskRCNN also has a head for masks or keypoints, which frcnn lacks"):
        from_torchvision(masks)
    with pytest.raises(ValueError, match=r"classes: the name 'a' is empty or there twice"):
        from_torchvision(tiny_theirs, classes=["a", "a"])
    with pytest.raises(ValueError, match=r"base model 'resnet50-fpn': is no detector of torchvision; leave it out, or"):
        from_torchvision(tiny_theirs.state_dict(), "resnet50-fpn", ["a", "b"])  # its layers would fit others
