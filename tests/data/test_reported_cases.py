"""Reports of users of other tools, rebuilt as small inputs (../shared/cases): what frcnn makes of each one.

cases.md and more.md say what each input is, failures.md what frcnn once made of it. Inputs that its generators do not
write are written here.
"""

import gc
import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from tiny import detections_of

from frcnn.config import DataSettings
from frcnn.data.dataset import SPLITS, open_dataset
from frcnn.data.images import read_image
from frcnn.data.problems import ProblemKind
from frcnn.inference.inputs import list_images

TESTS = Path(__file__).parents[1]
MODULES = {"c": "coco", "y": "yolo", "v": "voc", "s": "csv_json_xml", "l": "csv_json_xml", "o": "csv_json_xml"}
NAMES = ["eggBox", "joghurt", "ketchup", "mushroom", "mustard", "orange", "squash", "water"]

Box = tuple[float, float, float, float]
Objects = list[tuple[str, Box]]
Change = Callable[[int, tuple[int, int], Objects], Objects]
"""From the number of a photo, its (width, height) and its objects to those that are right."""


class Right(NamedTuple):
    """What is right for one case."""

    splits: Mapping[str, int] = MappingProxyType({"train": 6})
    """The number of images of each split; they are the photos in their order."""
    change: Change = lambda number, size, objects: objects
    problems: Mapping[tuple[str, ProblemKind], int] = MappingProxyType({})
    """How often each (level, kind) is reported."""
    photos: Mapping[str, int | None] = MappingProxyType({})
    """The number of the photo of each file that is not img0.jpg, img1.jpg, ...; None: it has no objects."""
    error: str = ""
    """A regular expression: the error that is raised instead."""
    data: str = ""
    """What the user names, in the folder."""


# -------------------------------------------------------------------------------------- boxes that are not the photo's


def boxes(change: Callable[[Box], Box]) -> Change:
    return lambda number, size, objects: [(name, change(box)) for name, box in objects]


def names(change: Callable[[str], str]) -> Change:
    return lambda number, size, objects: [(change(name), box) for name, box in objects]


def first(box: Callable[[int, int], Box]) -> Change:
    """The first object has another box, which depends on the photo's width and height."""
    return lambda number, size, objects: [(objects[0][0], box(*size)), *objects[1:]]


def around(angle: float) -> Callable[[Box], Box]:
    """The upright box around a box that is rotated about its center, in radians."""

    def change(box: Box) -> Box:
        x1, y1, x2, y2 = box
        w, h, cos, sin = x2 - x1, y2 - y1, abs(math.cos(angle)), abs(math.sin(angle))
        w, h = w * cos + h * sin, w * sin + h * cos
        return (x1 + x2 - w) / 2, (y1 + y2 - h) / 2, (x1 + x2 + w) / 2, (y1 + y2 + h) / 2

    return change


def inclusive(box: Box) -> Box:
    """Pascal VOC counts pixels from 1."""
    return box[0] - 1, box[1] - 1, box[2], box[3]


def border_boxes(number: int, size: tuple[int, int], objects: Objects) -> Objects:
    width, height = size
    more: Objects = [(NAMES[0], (0, 0, 133, 211)), (NAMES[1], (width - 35, height - 77, width, height))]
    return [*objects, *more]


def without_ascii(number: int, size: tuple[int, int], objects: Objects) -> Objects:
    """The second file is of an encoding that has no ä."""
    joghurt = "K?se" if number == 1 else "Käse"
    return [(joghurt if name == "joghurt" else name, inclusive(box)) for name, box in objects]


def rotated_first(number: int, size: tuple[int, int], objects: Objects) -> Objects:
    """Label Studio rotates about the corner, clockwise."""
    x1, y1, x2, y2 = objects[0][1]
    cos, sin, w, h = math.cos(math.radians(12)), math.sin(math.radians(12)), x2 - x1, y2 - y1
    return [(objects[0][0], (x1 - h * sin, y1, x1 + w * cos, y1 + h * cos + w * sin)), *objects[1:]]


def resized(number: int, size: tuple[int, int], objects: Objects) -> Objects:
    """Annotated at 1000 x 1333 pixels, 2.5 times as large."""
    width, height = size[0] / 1000, size[1] / 1333
    large = boxes(inclusive)(number, size, boxes(lambda box: tuple(2.5 * side for side in box))(number, size, objects))
    return boxes(lambda box: (box[0] * width, box[1] * height, box[2] * width, box[3] * height))(number, size, large)


def second_turned(number: int, size: tuple[int, int], objects: Objects) -> Objects:
    """The boxes of one photo were drawn on the stored pixels, which its EXIF orientation turns by 90 degrees."""
    upright = boxes(inclusive)(number, size, objects)
    turn = boxes(lambda box: (size[1] - box[3], box[0], size[1] - box[1], box[2]))
    return turn(number, size, upright) if number == 1 else upright


VOC = Right(change=boxes(inclusive))
TWO = Right({"train": 4, "test": 2})
"""Four photos to train on, two to test on; a set of two splits whose second is val."""
OTHER_NAMES = ["Molkerei: Käse", "酸奶", "O'Brien", "no", "null", "7", "a b", "x,y"]
MODES = "cmyk.jpg grey.png la.png rgba.png palette.gif g16.png f32.tif one.png webp.webp bmp.bmp tiff.tiff upper.JPG"

GENERATED = {
    "c01-image-id-string": Right(),
    "c02-string-ids": Right(),
    "c04-no-area": Right(),
    "c05-segmentation-only": Right(),
    "c07-empty-bbox": Right({"train": 7}, photos={"neg.jpg": None}),
    "c08-duplicate-ids": Right(error=r"^\S+instances_train.json: image id 1 appears twice: img0.jpg and img3.jpg"),
    "c10-fiftyone-layout": Right(),
    "c11-annotations-train-json": Right({"train": 6, "test": 2}),
    "c13-linux-absolute": Right(),
    "c14-label-studio-coco": Right(),
    "c16-url-encoded": Right(),
    "c17-cvat-coco": Right(),
    "c19-float-ids": Right(),
    "c20-no-annotations-key": Right(),
    "c22-roboflow-coco": Right({"train": 5, "val": 2, "test": 2}),
    "c23-suffix-case": Right(),
    "c25-json-as-data": Right(data="annotations/instances_train.json"),
    "c26-via-coco": Right(),
    "y01-mixed-polygons": TWO,
    "y02-confidence-column": TWO._replace(problems={("warning", ProblemKind.CONFIDENCE): 1}),
    "y04-class-names": TWO,
    "y05-crlf-bom": TWO,
    "y07-class-beyond": TWO._replace(problems={("left out", ProblemKind.UNKNOWN_CLASS): 6}),
    "y08-border-rounding": TWO._replace(change=border_boxes),
    "y10-dataset-name-prefix": TWO,
    "y11-content-absolute": TWO,
    "y13-classes-txt": Right(),
    "y13b-labelimg-yolo": Right(),
    "y14-cvat-yolo11": Right(),
    "y16-absolute-list": TWO,
    "y17-yaml-as-data": TWO._replace(data="data.yaml"),
    "y19-nc-mismatch": TWO,
    "y20-yaml-tab": Right(error="data.yaml: not a YAML file .*YAML takes spaces, no tabs"),
    "y22-pixels": TWO._replace(problems={("repaired", ProblemKind.PIXELS): 1}),
    "y23-pose": TWO,
    "y25-yaml-elsewhere": TWO,
    "y26-other-yaml": TWO,
    "y28-one-based": TWO._replace(problems={("repaired", ProblemKind.CLASSES_FROM_ONE): 1}),
    "y29-float-class": TWO,
    "y31-unicode-names": TWO._replace(change=names(dict(zip(NAMES, OTHER_NAMES, strict=True)).__getitem__)),
    "y32-gbk-yaml": Right(error="data.yaml, line 4, column 10: not UTF-8 text .*; save it as UTF-8"),
    "v01-float-coordinates": Right(change=boxes(lambda box: inclusive(tuple(side + 0.7 for side in box)))),
    "v02-no-size": VOC,
    "v04-size-zero": VOC,
    "v05-parts": VOC,
    "v07-kaggle-lowercase": VOC,
    "v07b-Images-Annotations": VOC,
    "v08-xml-xml": VOC,
    "v08b-jpg-xml": VOC,
    "v10-xmin-zero": Right(
        change=first(lambda width, height: (0, 0, 90, 120)), problems={("repaired", ProblemKind.ZERO_BASED): 1}
    ),
    "v11-swapped": VOC._replace(problems={("repaired", ProblemKind.SWAPPED_CORNERS): 6}),
    "v13-encodings": Right({"train": 3}, without_ascii),
    "v14-robndbox": Right(change=boxes(around(0.3)), problems={("warning", ProblemKind.ROTATED_BOXES): 1}),
    "v14b-polygon": Right(),
    "v16-no-xml-background": Right(
        {"train": 4, "test": 2}, boxes(inclusive), problems={("warning", ProblemKind.WITHOUT_ANNOTATION): 1}
    ),
    "v17-xml-no-object": VOC._replace(
        change=lambda number, size, objects: [] if number == 3 else boxes(inclusive)(number, size, objects)
    ),
    "v19-subfolders": VOC,
    "v20-vocdevkit-parent": VOC._replace(splits={"train": 3, "test": 2}),
    "v22-resized": Right(
        change=resized,
        problems={("repaired", ProblemKind.OTHER_RESOLUTION): 6},
    ),
    "v23-xml-only": Right(error="the folder has no images at all"),
    "s01-header-location": Right(),
    "s02-sku110k": Right(),
    "s04-semicolon-decimal-comma": Right(change=boxes(lambda box: (box[0] + 0.5, box[1] + 0.25, box[2], box[3] + 0.5))),
    "s05-kaggle-wheat": Right(change=names(lambda name: "object"), problems={("warning", ProblemKind.NO_CLASSES): 1}),
    "s07-via-csv": Right(),
    "s08-backslash": Right(),
    "s10-makesense-header": Right(),
    "s11-automl": Right(),
    "s13-bom": Right(change=names(lambda name: "Käse")),
    "s14-xywh-header": Right(),
    "s16-absolute-csv": Right(),
    "s17-roboflow-csv": TWO,
    "s19-negatives": Right({"train": 7}, photos={"neg.jpg": None}),
    "s20-nan-negatives": Right({"train": 7}, photos={"neg.jpg": None}),
    "s22-tsv": Right(),
    "s23-quotes": Right(change=names(lambda name: f"{name}, big")),
    "l01-imagepath-differs": Right(),
    "l02-windows-relative": Right(),
    "l02b-windows-absolute": Right(),
    "l04-mask-shapes": Right(problems={("warning", ProblemKind.SHAPE_WITHOUT_BOX): 1}),
    "l05-apart": Right(),
    "l07-fraction-outside": Right(
        change=first(lambda width, height: (0, 10.2, 60.5, height)), problems={("repaired", ProblemKind.OUTSIDE): 6}
    ),
    "l08-xanylabeling": Right(),
    "o01-createml": Right(),
    "o02-via-json": Right(),
    "o04-label-studio": Right(change=rotated_first),
    "o05-label-studio-predictions": Right(error="no training image has an object"),
    "o07-kitti": Right(),
    "o08-zip": Right(error="is an archive; unpack it", data="set.zip"),
    "i01-modes": Right(
        {"train": 16},
        photos={
            name: number
            for number, name in enumerate([*MODES.split(), "upper2.JPEG", "ptrans.png", "lab.tif", "ycc.jpg"])
        },
        problems={("warning", ProblemKind.GUESSED_RANGE): 1},
    ),
    "i02-suffixes": Right(
        photos={name: number for number, name in enumerate(["a.avif", "b.jfif", "c.jpe", "d.ppm", "e.jp2", "f.pgm"])}
    ),
    "i02c-voc-jfif": VOC,
    "i02d-voc-avif": VOC,
    "i04-exif": Right(  # its two photos with an orientation contradict each other
        change=second_turned,
        problems={("repaired", ProblemKind.UNROTATED_IMAGE): 1, ("warning", ProblemKind.ROTATED_IMAGE): 1},
    ),
    "i05-multi": Right({"train": 4}, photos={"a.tif": 0, "b.gif": 2, "c.webp": 4, "d.jpg": 6}),
    "i07-12bit": Right({"train": 4}, problems={("warning", ProblemKind.GUESSED_RANGE): 4}),
    "i08-multiband": Right(
        {"train": 3},
        photos={"rgb16.tif": 0, "rgbn8.tif": 0, "int32.tif": 1},
        problems={("warning", ProblemKind.GUESSED_RANGE): 1},
    ),
}
"""What is right for each case of cases.md."""


# -------------------------------------------------------------------------------------------------------------- writing


@pytest.fixture(scope="session")
def generators(shared: Path) -> Iterator[dict[str, ModuleType]]:
    """The modules of ../shared/cases by name; they write to `lib.ROOT`."""
    known, before = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(shared / "cases"))
    sys.dont_write_bytecode = True
    try:
        modules = {name: import_module(name) for name in ("lib", "images", *set(MODULES.values()))}
    finally:
        sys.path.pop(0)
        sys.dont_write_bytecode = before
    lib = modules["lib"]
    lib.photos = lib.stock()
    yield modules
    for name in set(modules) - known:
        del sys.modules[name]


@pytest.fixture
def lib(generators: dict[str, ModuleType], tmp_path: Path) -> ModuleType:
    lib = generators["lib"]
    lib.ROOT = tmp_path
    lib._stock = [(image.copy(), objects) for image, objects in lib.photos]  # saving leaves something in an image
    return lib


def generate(case: str, generators: dict[str, ModuleType], folder: Path) -> Path:
    """Write one case; its data folder."""
    function = case.partition("-")[0]
    module = generators[MODULES.get(case[0], "images")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it opens images, and does not close them
        getattr(module, function)()
        gc.collect()
    return folder / "cases" / case / "data"


def check(data: Path, right: Right, lib: ModuleType) -> None:
    """The data set has the photos with their objects, and the problems that are right."""
    if right.error:
        with pytest.raises(ValueError, match=f"(?s){right.error}"):
            open_dataset(data / right.data, DataSettings())
        return
    dataset = open_dataset(data / right.data, DataSettings())
    assert {split: len(dataset.records(split)) for split in SPLITS if len(dataset.records(split))} == right.splits
    for split in right.splits:
        for record in dataset.records(split):
            name = record.image.name
            digits = re.findall(r"\d+", record.image.stem)
            number = right.photos[name] if name in right.photos else int(digits[-1])
            objects: Objects = []
            if number is not None:
                photo, stored = lib.photos[number]
                objects = right.change(number, photo.size, [(name, tuple(box)) for name, *box in stored])
            assert list(record.class_names) == [name for name, _ in objects], name
            np.testing.assert_allclose(
                record.boxes, np.array([box for _, box in objects]).reshape(-1, 4), atol=0.01, err_msg=name
            )
    problems = Counter((problem.level, problem.kind) for problem in dataset.problems)
    problems = Counter({key: count for key, count in problems.items() if key != ("warning", ProblemKind.NEVER_TRAINED)})
    assert problems == right.problems


@pytest.mark.parametrize("case", GENERATED)
def test_generated_cases(case: str, generators: dict[str, ModuleType], lib: ModuleType, tmp_path: Path) -> None:
    check(generate(case, generators, tmp_path), GENERATED[case], lib)


@pytest.mark.parametrize("case", ["i01-modes", "i02-suffixes", "i05-multi", "i07-12bit", "i08-multiband"])
def test_all_kinds_of_pixels_look_like_the_photo(
    case: str, generators: dict[str, ModuleType], lib: ModuleType, tmp_path: Path
) -> None:
    """None is black or inverted; small squares are compared, because one mode has black and white dots only."""

    def squares(image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("L").resize((20, 26), Image.Resampling.BOX)).astype(float)

    data = generate(case, generators, tmp_path)
    for name, number in (GENERATED[case].photos or {f"m{number}.tif": number for number in range(4)}).items():
        if name != "lab.tif":  # the generator gives red, green and blue out as lightness, a and b
            difference = squares(read_image(data / name)) - squares(lib.photos[number][0])
            assert np.abs(difference).mean() < 8, name


# ------------------------------------------------------------------------------ cases that the generators do not write

Write = Callable[[ModuleType, Path], None]
REBUILT: dict[str, tuple[Write, Right]] = {}
"""The other cases of more.md: what writes them, with ../shared/cases/lib.py, and what is right."""


def rebuilt(case: str, right: Right) -> Callable[[Write], Write]:
    def register(write: Write) -> Write:
        REBUILT[case] = write, right
        return write

    return register


@rebuilt("03c-voc-train-images-train-xmls", TWO._replace(change=boxes(inclusive)))
def _(lib: ModuleType, data: Path) -> None:
    lib.voc(data, n=4, img="train_images/{}.jpg", ann="train_xmls/{}.xml")
    lib.voc(data, n=2, first=4, img="valid_images/{}.jpg", ann="valid_xmls/{}.xml")


@rebuilt("03d-voc-train-images-annotations", TWO._replace(change=boxes(inclusive)))
def _(lib: ModuleType, data: Path) -> None:
    lib.voc(data, n=4, img="train/images/{}.jpg", ann="train/annotations/{}.xml")
    lib.voc(data, n=2, first=4, img="valid/images/{}.jpg", ann="valid/annotations/{}.xml")


def labelme(lib: ModuleType, folder: Path, numbers: range = range(6)) -> None:
    module = sys.modules["csv_json_xml"]
    for number in numbers:
        image, objects = lib.stock()[number]
        lib.save({f"img{number}.jpg": image}, folder)
        lib.dump(module.lm(image, objects, f"img{number}.jpg"), folder / f"img{number}.json")


@rebuilt("08-labelme-own-runs", Right())
def _(lib: ModuleType, data: Path) -> None:
    labelme(lib, data)
    labelme(lib, data / "runs/data/pictures", range(8))
    for name in ("config.yaml", "local.yaml"):
        (data / "runs/data" / name).write_text("seed: 1\n")


@rebuilt("09-own-json-taken-for-data", Right())
def _(lib: ModuleType, data: Path) -> None:
    labelme(lib, data)
    detections = detections_of((NAMES[0], 0.9, (10, 12, 60, 70)), path=str(data / "img0.jpg"))
    lib.dump([detections.to_dict()] * 20, data / "found.json")


@rebuilt("10-roboflow-missing-test", TWO._replace(problems={("warning", ProblemKind.MISSING_SPLIT): 1}))
def _(lib: ModuleType, data: Path) -> None:
    places = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 8\n"
    lib.yolo(data, yaml_text=f"{places}names: {NAMES}\n", layout="{s}/images", lab="{s}/labels")
    (data / "val").rename(data / "valid")


@rebuilt("11-hidden-folder-ipynb-checkpoints", TWO)
def _(lib: ModuleType, data: Path) -> None:
    lib.yolo(data)
    lib.save({"img0-checkpoint.jpg": lib.stock()[0][0]}, data / "images/train/.ipynb_checkpoints")


@rebuilt("11b-hidden-folder-labelme", Right())
def _(lib: ModuleType, data: Path) -> None:
    labelme(lib, data)
    labelme(lib, data / ".ipynb_checkpoints", range(1))


@rebuilt("13-coco-image-twice", Right(error="img0.jpg"))
def _(lib: ModuleType, data: Path) -> None:
    content, files = lib.coco()
    content["images"].append(content["images"][0] | {"id": 99})
    content["annotations"].append(content["annotations"][0] | {"id": 999, "image_id": 99})
    lib.save(files, data)
    lib.dump(content, data / "instances_train.json")


@rebuilt("14-coco-no-width-height", Right())
def _(lib: ModuleType, data: Path) -> None:
    content, files = lib.coco()
    content["images"] = [{"id": image["id"], "file_name": image["file_name"]} for image in content["images"]]
    lib.save(files, data)
    lib.dump(content, data / "instances_train.json")


def coco_paths(lib: ModuleType, data: Path, folder: str) -> None:
    content, files = lib.coco()
    for image in content["images"]:
        image["file_name"] = folder + image["file_name"]
    lib.save(files, data / "images")
    lib.dump(content, data / "result.json")


@rebuilt("17-coco-paths-elsewhere", Right())
def _(lib: ModuleType, data: Path) -> None:
    coco_paths(lib, data, "../../media/upload/7/")


@rebuilt("17c-coco-windows-absolute", Right())
def _(lib: ModuleType, data: Path) -> None:
    coco_paths(lib, data, "D:\\me\\set\\images\\")


@rebuilt("18b-coco-nan", Right())
def _(lib: ModuleType, data: Path) -> None:
    content, files = lib.coco()
    for annotation in content["annotations"]:
        annotation["area"] = math.nan
    lib.save(files, data)
    lib.dump(content, data / "instances_train.json")


@rebuilt("18c-coco-bbox-strings", Right())
def _(lib: ModuleType, data: Path) -> None:
    content, files = lib.coco()
    for annotation in content["annotations"]:
        annotation["bbox"] = [str(side) for side in annotation["bbox"]]
    lib.save(files, data)
    lib.dump(content, data / "instances_train.json")


@rebuilt("19c-coco-layout-set-folders", TWO)
def _(lib: ModuleType, data: Path) -> None:
    for split, count, start in (("train", 4, 0), ("val", 2, 4)):
        content, files = lib.coco(count, start)
        lib.save(files, data / split / "images")
        lib.dump(content, data / split / "annotations.json")


@rebuilt("20-yolo-comma", TWO)
def _(lib: ModuleType, data: Path) -> None:
    lib.yolo(data, lines=lambda image, objects: lib.yolo_lines(image, objects, sep=","))


@rebuilt("20d-yolo-windows-list", TWO)
def _(lib: ModuleType, data: Path) -> None:
    lib.yolo(data, yaml_text=f"train: train.txt\nval: val.txt\nnames: {NAMES}\n")
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        (data / f"{split}.txt").write_text("".join(f"images\\{split}\\img{number}.jpg\n" for number in numbers))


@rebuilt("20e-yolo-windows-yaml", TWO)
def _(lib: ModuleType, data: Path) -> None:
    lib.yolo(data, yaml_text=f"train: images\\train\nval: images\\val\nnames: {NAMES}\n")


@rebuilt("20h2-yolo-pose-2d", TWO)
def _(lib: ModuleType, data: Path) -> None:
    places = "train: images/train\nval: images/val\nkpt_shape: [3, 2]\n"
    lib.yolo(
        data,
        yaml_text=f"{places}names: {NAMES}\n",
        lines=lambda image, objects: [f"{line} 0.5 0.5 0.6 0.6 0.2 0.9" for line in lib.yolo_lines(image, objects)],
    )


@rebuilt("22-voc-filename-element", VOC)
def _(lib: ModuleType, data: Path) -> None:
    lib.voc(data, img="images/{}.jpg", ann="annotations/label_of_{}.xml")


@rebuilt("22c-voc-imagesets-suffix", TWO._replace(change=boxes(inclusive)))
def _(lib: ModuleType, data: Path) -> None:
    lib.voc(data, img="JPEGImages/{}.jpg", ann="Annotations/{}.xml")
    (data / "ImageSets/Main").mkdir(parents=True)
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        (data / f"ImageSets/Main/{split}.txt").write_text("".join(f"img{number}.jpg\n" for number in numbers))


@rebuilt("23b-cvat-xml-taken-for-voc", Right())
def _(lib: ModuleType, data: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    for number, (image, objects) in enumerate(lib.stock()[:6]):
        lib.save({f"img{number}.jpg": image}, data / "images")
        text += f'<image id="{number}" name="img{number}.jpg" width="{image.width}" height="{image.height}">'
        for name, x1, y1, x2, y2 in objects:
            text += f'<box label="{name}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"></box>'
        text += "</image>"
    (data / "annotations.xml").write_text(text + "</annotations>\n")


@rebuilt("29-jpeg-without-end", VOC._replace(problems={("repaired", ProblemKind.TRUNCATED_IMAGE): 6}))
def _(lib: ModuleType, data: Path) -> None:
    lib.voc(data)
    for image in data.glob("*.jpg"):
        image.write_bytes(image.read_bytes()[:-20])


@rebuilt("30-class-in-test-only", Right({"train": 4, "test": 2}, lambda number, size, objects: objects[:1]))
def _(lib: ModuleType, data: Path) -> None:
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        lines = ["filename,xmin,ymin,xmax,ymax,class"]
        for number in numbers:
            image, ((name, *box), *_) = lib.stock()[number]
            lib.save({f"img{number}.jpg": image}, data)
            lines.append(",".join(map(str, (f"img{number}.jpg", *box, name))))
        (data / f"{split}.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("case", REBUILT)
def test_rebuilt_cases(case: str, lib: ModuleType, tmp_path: Path) -> None:
    write, right = REBUILT[case]
    write(lib, tmp_path)
    check(tmp_path, right, lib)


# ------------------------------------------------------------------------------------------------- every report is here

MORE = {
    "01-yolo-border-rounding": "y08-border-rounding",
    "02-image-size-setting-ignored": "config/test_merge.py::test_a_named_setting_without_effect_is_refused",
    "03-voc-kaggle-images-annotations": "v07-kaggle-lowercase",
    "03b-voc-Images-Annotations": "v07b-Images-Annotations",
    "04-voc-zero-based": "v10-xmin-zero",
    "05-python-pil-exif": "inference/test_inputs.py::test_a_pillow_image_is_turned_as_its_file_is",
    "06-mplbackend-inline": "training/test_loggers.py::test_curves_need_no_backend",
    "07-output-cp1252": "test_cli.py::test_a_console_of_few_characters_ends_no_command",
    "12-black-16bit-float-int32": "i07-12bit i08-multiband i01-modes",
    "15-coco-image-id-string": "c01-image-id-string",
    "16-coco-polygons-only": "c05-segmentation-only",
    "17b-coco-absolute": "c13-linux-absolute",
    "17d-coco-url-encoded": "c16-url-encoded",
    "17e-suffix-case": "c23-suffix-case",
    "17f-csv-absolute": "s16-absolute-csv",
    "17g-yolo-absolute-list": "y16-absolute-list",
    "18-coco-odd-json-float-ids": "c19-float-ids",
    "18d-coco-empty-bbox-background": "c07-empty-bbox",
    "19-coco-layouts-train-json": "c11-annotations-train-json",
    "19b-coco-layout-fiftyone": "c10-fiftyone-layout",
    "20b-yolo-confidence": "y02-confidence-column",
    "20c-yolo-class-names": "y04-class-names",
    "20f-yolo-name-prefix": "y10-dataset-name-prefix",
    "20g-yolo-content-absolute": "y11-content-absolute",
    "20h-yolo-pose": "y23-pose",
    "20i-yolo-classes-txt": "y13-classes-txt",
    "20j-labelimg-yolo": "y13b-labelimg-yolo",
    "20k-cvat-yolo11": "y14-cvat-yolo11",
    "21-data-yaml-as-data": "y17-yaml-as-data",
    "22b-voc-xml-xml": "v08-xml-xml",
    "22d-voc-polygon": "v14b-polygon",
    "22e-voc-robndbox": "v14-robndbox",
    "22f-voc-no-xml-background": "v16-no-xml-background",
    "23-createml-taken-for-label-studio": "o01-createml",
    "23c-via-json": "o02-via-json",
    "24-csv-header-location": "s01-header-location",
    "24b-csv-sku110k": "s02-sku110k",
    "24c-csv-xywh": "s10-makesense-header",
    "24d-csv-roboflow": "s17-roboflow-csv",
    "24e-csv-images-in-set-folder": "s05-kaggle-wheat",
    "24f-csv-nan-negative": "s20-nan-negatives",
    "24g-csv-decimal-comma": "s04-semicolon-decimal-comma",
    "25-labelme-imagepath": "l01-imagepath-differs",
    "25b-labelme-apart": "l05-apart",
    "25c-labelme-mask": "l04-mask-shapes",
    "25d-labelme-imagedata": "data/test_labelme.py::test_an_image_that_is_only_inside_its_annotation_is_left_out",
    "26-predict-hidden-files": "inference/test_inputs.py::test_a_folder_stands_for_its_images_in_natural_order",
    "27-predict-one-broken": "test_cli.py::test_predict_skips_a_broken_photo_and_names_it",
    "28-suffix-jfif-avif": "i02c-voc-jfif i02d-voc-avif",
    "28b-suffix-avif-predict": "i02b-suffixes-predict",
    "31-labels-drawn-as-squares": "inference/test_plot.py::test_letters_that_pillows_font_lacks_are_drawn_with_another",
    "32-python-train-silent": "training/test_train.py::test_the_progress_bar_counts_steps",
    "33-python-inputs": "inference/test_inputs.py::test_all_ways_to_give_an_image_give_its_pixels",
}
"""The other cases of more.md: cases of the same kind, or the test of what is no data."""

FAULTS = {
    1: "y08-border-rounding l07-fraction-outside",
    2: "v10-xmin-zero",
    3: "v07-kaggle-lowercase v07b-Images-Annotations 03c-voc-train-images-train-xmls 03d-voc-train-images-annotations",
    4: "10-roboflow-missing-test",
    5: "30-class-in-test-only "
    "data/test_dataset.py::test_a_class_that_only_test_images_have_is_left_out_of_the_evaluation",
    6: "17-coco-paths-elsewhere c13-linux-absolute 17c-coco-windows-absolute c16-url-encoded c23-suffix-case "
    "s16-absolute-csv y16-absolute-list y10-dataset-name-prefix",
    7: "29-jpeg-without-end",
    8: "02-image-size-setting-ignored "
    "config/test_cntk.py::test_the_tutorials_size_of_images_implies_its_way_of_resizing",
    9: "05-python-pil-exif test_detector.py::test_a_picture_of_a_photo_that_is_turned_by_its_tag",
    10: "y23-pose 20h2-yolo-pose-2d",
    11: "i07-12bit i08-multiband i01-modes",
    12: "i04-exif",
    13: "11-hidden-folder-ipynb-checkpoints 11b-hidden-folder-labelme",
    14: "13-coco-image-twice",
    15: "31-labels-drawn-as-squares tools/test_check_images.py::test_contact_sheets_show_letters_of_other_languages",
    16: "06-mplbackend-inline",
    17: "07-output-cp1252",
    18: "08-labelme-own-runs",
    19: "09-own-json-taken-for-data",
    20: "14-coco-no-width-height c01-image-id-string c05-segmentation-only c19-float-ids 18b-coco-nan "
    "18c-coco-bbox-strings c07-empty-bbox c11-annotations-train-json c10-fiftyone-layout 19c-coco-layout-set-folders",
    21: "20-yolo-comma y02-confidence-column y04-class-names 20d-yolo-windows-list 20e-yolo-windows-yaml "
    "y10-dataset-name-prefix y11-content-absolute y13-classes-txt y13b-labelimg-yolo y14-cvat-yolo11",
    22: "22-voc-filename-element v08-xml-xml 22c-voc-imagesets-suffix v14b-polygon v14-robndbox v16-no-xml-background",
    23: "s01-header-location s02-sku110k s10-makesense-header s17-roboflow-csv s05-kaggle-wheat s20-nan-negatives "
    "s04-semicolon-decimal-comma",
    24: "l01-imagepath-differs l05-apart l04-mask-shapes 25d-labelme-imagedata",
    25: "i02-suffixes i02c-voc-jfif i02d-voc-avif i02b-suffixes-predict",
    26: "o01-createml 23b-cvat-xml-taken-for-voc o02-via-json y13b-labelimg-yolo",
    27: "y17-yaml-as-data c25-json-as-data o08-zip",
    28: "o05-label-studio-predictions",
    29: "26-predict-hidden-files",
    30: "27-predict-one-broken",
    31: "33-python-inputs",
    32: "32-python-train-silent",
}
"""The faults of failures.md by their numbers. 33 to 35 are wishes for commands, not faults of reading data."""


def names_a_test(name: str) -> bool:
    """Whether a case, or a test in the form path::name, is there."""
    path, is_test, function = name.partition("::")
    if is_test:
        return f"def {function}(" in (TESTS / path).read_text(encoding="utf-8")
    if name == "i02b-suffixes-predict":
        return True  # below
    return name in GENERATED or name in REBUILT or all(map(names_a_test, MORE[name].split()))


def test_every_report_has_its_test(shared: Path) -> None:
    cases = {
        file: set(
            re.findall(r"^\| ([a-z]?\d\S+) \|", (shared / "cases" / file).read_text(encoding="utf-8"), re.MULTILINE)
        )
        for file in ("cases.md", "more.md")
    }
    assert cases["cases.md"] == {*GENERATED, "i02b-suffixes-predict"}
    assert cases["more.md"] == {*REBUILT, *MORE}
    for names in (*MORE.values(), *FAULTS.values()):
        assert all(map(names_a_test, names.split())), names
    text = (shared / "cases" / "failures.md").read_text(encoding="utf-8").partition("## 2.")[2].partition("## 3.")[0]
    numbers = re.findall(r"(?:^|(?<=\. )|(?<=\) and ))(\d+)\. ", text, re.MULTILINE)
    assert {int(number) for number in numbers} == {*FAULTS, 33, 34, 35}


def test_a_folder_to_predict_lists_its_photos_of_all_suffixes(
    generators: dict[str, ModuleType], lib: ModuleType, tmp_path: Path
) -> None:
    """i02b-suffixes-predict: a folder has the images that it has for training."""
    data = generate("i02-suffixes", generators, tmp_path).parents[1] / "i02b-suffixes-predict" / "data"
    assert [Path(str(image)).name for image in list_images(data)] == list(GENERATED["i02-suffixes"].photos)
