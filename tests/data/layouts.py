"""The same few images, written in every layout in which people have their data."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from string import ascii_letters
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]


class Photo(NamedTuple):
    """One image and its objects."""

    name: str
    width: int
    height: int
    objects: tuple[tuple[str, Box], ...]

    @property
    def stem(self) -> str:
        return Path(self.name).stem


Splits = Mapping[str, tuple[Photo, ...]]
Write = Callable[[Path, Splits], None]

TOY: Splits = {
    "train": (
        Photo("a 1.jpg", 64, 48, (("cat", (1, 2, 30, 40)), ("dog", (10, 4, 60, 47)))),
        Photo("b2.jpg", 48, 64, (("dog", (5, 5, 20, 21)),)),
    ),
    "test": (Photo("c3.jpg", 50, 50, (("cat", (3, 3, 49, 33)), ("cat", (20, 30, 40, 44)))),),
}
"""Three images. No coordinate is 0, so VOC's rule of counting from 1 applies; every image has objects."""


def write_images(folder: Path, photos: Iterable[Photo]) -> None:
    for photo in photos:
        put_image(folder / photo.name, photo)


def put_image(file: Path, photo: Photo) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(photo.name.encode())
    pixels = np.random.default_rng(seed).integers(0, 255, (photo.height, photo.width, 3), np.uint8)
    Image.fromarray(pixels).save(file, format="PNG" if file.suffix == ".png" else "JPEG")


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def put_json(file: Path, content: Any) -> None:
    put(file, json.dumps(content))


def all_photos(splits: Splits) -> list[Photo]:
    return [photo for photos in splits.values() for photo in photos]


def classes(splits: Splits) -> list[str]:
    return sorted({name for photo in all_photos(splits) for name, _ in photo.objects})


# Pascal VOC


def voc_xml(photo: Photo, *, zero_based: bool = False) -> str:
    first = 0 if zero_based else 1
    objects = "".join(
        f"<object><name>{escape(name)}</name><difficult>0</difficult><bndbox><xmin>{x1 + first * (x2 > x1):g}</xmin>"
        f"<ymin>{y1 + first * (y2 > y1):g}</ymin><xmax>{x2 + first * (x2 < x1):g}</xmax>"
        f"<ymax>{y2 + first * (y2 < y1):g}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in photo.objects
    )
    return (
        f"<annotation><folder>x</folder><filename>{escape(photo.name)}</filename><size><width>{photo.width}</width>"
        f"<height>{photo.height}</height><depth>3</depth></size>{objects}</annotation>"
    )


def voc(folder: Path, splits: Splits) -> None:
    write_images(folder / "JPEGImages", all_photos(splits))
    for split, photos in splits.items():
        put(folder / "ImageSets/Main" / f"{split}.txt", "".join(f"{photo.stem}\n" for photo in photos))
        for photo in photos:
            put(folder / "Annotations" / f"{photo.stem}.xml", voc_xml(photo))


def voc_devkit(folder: Path, splits: Splits) -> None:
    voc(folder / "VOCdevkit/VOC2007", splits)


def voc_apart(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    for photo in all_photos(splits):
        put(folder / "annotations" / f"{photo.stem}.xml", voc_xml(photo))


def voc_beside(folder: Path, splits: Splits) -> None:
    for photo in all_photos(splits):
        put_image(folder / photo.name, photo)
        put(folder / f"{photo.stem}.xml", voc_xml(photo))


def voc_split_folders(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        voc_beside(folder / split, {split: photos})


def voc_split_suffixes(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / f"{split}_images", photos)
        for photo in photos:
            put(folder / f"{split}_xmls" / f"{photo.stem}.xml", voc_xml(photo))


def voc_split_subfolders(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        voc_apart(folder / "data" / split, {split: photos})


# COCO


def coco_content(photos: Iterable[Photo], names: list[str], *, prefix: str = "") -> dict[str, Any]:
    images, annotations = [], []
    for number, photo in enumerate(photos, start=7):
        images.append({"id": number, "file_name": prefix + photo.name, "width": photo.width, "height": photo.height})
        for name, (x1, y1, x2, y2) in photo.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": names.index(name) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name, "supercategory": "x"} for number, name in enumerate(names, start=1)]
    return {"info": {"year": 2020}, "images": images, "annotations": annotations, "categories": categories}


def coco(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "images" / split, photos)
        put_json(folder / f"annotations/instances_{split}.json", coco_content(photos, classes(splits)))


def coco_split_folders(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        put_json(folder / split / "_annotations.coco.json", coco_content(photos, classes(splits)))


def coco_flat(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    for split, photos in splits.items():
        put_json(folder / f"{split}.json", coco_content(photos, classes(splits), prefix="/home/me/images/"))


def coco_one_file(folder: Path, splits: Splits) -> None:
    write_images(folder / "data", all_photos(splits))
    put_json(folder / "labels.json", coco_content(all_photos(splits), classes(splits)))


def coco_other_keys(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "normal" / split, photos)
        content = coco_content(photos, classes(splits))
        content["annotation"] = [
            {key: value for key, value in one.items() if key not in ("area", "iscrowd")}
            | {"category_id": one["category_id"] - 1}
            for one in content.pop("annotations")
        ]
        content["categories"] = [{"id": one["id"] - 1, "name": one["name"]} for one in content["categories"]]
        content["images"] = [{"id": one["id"], "filename": one["file_name"]} for one in content["images"]]
        put_json(folder / f"normal/annotations/{split}.json", content)


def coco_polygons(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    for split, photos in splits.items():
        content = coco_content(photos, classes(splits))
        for one in content["annotations"]:
            x, y, w, h = one.pop("bbox")
            one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            one["image_id"] = str(one["image_id"])
        put_json(folder / f"annotations_{split}.json", content)


def coco_lvis(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / f"{split}2017", photos)
        content = coco_content(photos, classes(splits))
        for one in content["images"]:
            one["coco_url"] = f"http://images.cocodataset.org/{split}2017/{one.pop('file_name').replace(' ', '%20')}"
        put_json(folder / f"lvis_v1_{split}.json", content)


# YOLO


def yolo_lines(photo: Photo, names: list[str], *, polygon: bool = False) -> str:
    lines = []
    for name, (x1, y1, x2, y2) in photo.objects:
        w, h = photo.width, photo.height
        if polygon:
            numbers = [x1 / w, y1 / h, x2 / w, y1 / h, x2 / w, y2 / h, x1 / w, y2 / h]
            numbers = [*numbers, *numbers[:2]]  # five points: four could be an oriented box
        else:
            numbers = [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
        lines.append(f"{names.index(name)} " + " ".join(f"{number:.9f}" for number in numbers))
    return "".join(f"{line}\n" for line in lines)


def yolo_yaml(splits: Splits, place: str, **more: str) -> str:
    names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(classes(splits)))
    keys = "".join(f"{key}: {value}\n" for key, value in more.items())
    return keys + "".join(f"{split}: {place.format(split)}\n" for split in splits) + f"names:\n{names}"


def yolo(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "images" / split, photos)
        for photo in photos:
            put(folder / "labels" / split / f"{photo.stem}.txt", yolo_lines(photo, classes(splits)))
    put(folder / "data.yaml", yolo_yaml(splits, "images/{}"))


def yolo_split_folders(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split / "images", photos)
        for photo in photos:
            put(folder / split / "labels" / f"{photo.stem}.txt", yolo_lines(photo, classes(splits)))
    put(folder / "data.yaml", yolo_yaml(splits, "../{}/images"))


def yolo_yaml_elsewhere(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "raw" / split / "images", photos)
        for number, photo in enumerate(photos):
            text = yolo_lines(photo, classes(splits), polygon=number == 0).replace("\n", "\r\n")
            put(folder / "raw" / split / "labels" / f"{photo.stem}.txt", text)
    put(folder / "configs/set.yaml", yolo_yaml(splits, "data/raw/{}/images", path="/content/drive/set"))


def yolo_darknet(folder: Path, splits: Splits) -> None:
    keys = ""
    for split, photos in splits.items():
        for photo in photos:
            put_image(folder / "obj" / photo.name, photo)
            put(folder / "obj" / f"{photo.stem}.txt", yolo_lines(photo, classes(splits)))
        key = "valid" if split == "test" else split
        put(folder / f"{key}.txt", "".join(f"data/obj/{photo.name}\n" for photo in photos))
        keys += f"{key} = data/{key}.txt\n"
    put(folder / "obj.names", "".join(f"{name}\n" for name in classes(splits)))
    put(folder / "obj.data", f"classes = {len(classes(splits))}\n{keys}names = data/obj.names\nbackup = backup/\n")


def yolo_flat(folder: Path, splits: Splits) -> None:
    for photo in all_photos(splits):
        put_image(folder / photo.name, photo)
        put(folder / f"{photo.stem}.txt", yolo_lines(photo, classes(splits)))
    put(folder / "classes.txt", "".join(f"{name}\n" for name in classes(splits)))


def yolo_two_folders(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    for photo in all_photos(splits):
        put(folder / "labels" / f"{photo.stem}.txt", yolo_lines(photo, classes(splits)))
    put(folder / "classes.txt", "".join(f"{name}\n" for name in classes(splits)))


# CSV


def rows(head: str, cells: Iterable[Iterable[object]], *, delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    if head:
        writer.writerow(head.split(","))
    writer.writerows([[f"{cell:g}" if isinstance(cell, float) else cell for cell in row] for row in cells])
    return out.getvalue()


def csv_tensorflow(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    for split, photos in splits.items():
        cells = [(p.name, p.width, p.height, name, *map(float, box)) for p in photos for name, box in p.objects]
        put(folder / f"data/{split}_labels.csv", rows("filename,width,height,class,xmin,ymin,xmax,ymax", cells))


def csv_split_folders(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        cells = [(p.name, p.width, p.height, name, *map(float, box)) for p in photos for name, box in p.objects]
        head = "filename,width,height,class,xmin,ymin,xmax,ymax"
        put(folder / split / "_annotations.csv", rows(head, cells))


def csv_vott(folder: Path, splits: Splits) -> None:
    place = folder / "Data/Source_Images/Photos"
    cells = [(p.name, *map(float, box), name) for p in all_photos(splits) for name, box in p.objects]
    write_images(place / "vott-csv-export", all_photos(splits))
    put(place / "vott-csv-export/Annotations-export.csv", rows("image,xmin,ymin,xmax,ymax,label", cells))


def csv_retinanet(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "img", photos)
        cells = [(f"img/{p.name}", *map(int, box), name) for p in photos for name, box in p.objects]
        put(folder / f"{split}.csv", rows("", cells))
    put(folder / "classes.csv", rows("", enumerate(classes(splits))).replace("\r", ""))


def csv_open_images(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        cells = [
            (
                p.stem,
                "xclick",
                name,
                1,
                f"{x1 / p.width:.9f}",
                f"{x2 / p.width:.9f}",
                f"{y1 / p.height:.9f}",
                f"{y2 / p.height:.9f}",
            )
            for p in photos
            for name, (x1, y1, x2, y2) in p.objects
        ]
        head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax"
        put(folder / f"{split}-annotations-bbox.csv", rows(head, cells))


def csv_semicolons(folder: Path, splits: Splits) -> None:
    write_images(folder / "photos", all_photos(splits))
    cells = [
        (split, p.name, name, *(f"{side:.1f}".replace(".", ",") for side in box))
        for split, photos in splits.items()
        for p in photos
        for name, box in p.objects
    ]
    put(folder / "boxes.csv", rows("split,image,label,x1,y1,x2,y2", cells, delimiter=";"))


def csv_one_cell(folder: Path, splits: Splits) -> None:
    write_images(folder / "train", all_photos(splits))
    cells = [
        (p.stem, p.width, p.height, f"[{x1}, {y1}, {x2 - x1}, {y2 - y1}]", name)
        for p in all_photos(splits)
        for name, (x1, y1, x2, y2) in p.objects
    ]
    put(folder / "train.csv", rows("image_id,width,height,bbox,label", cells))


def csv_corners_in_one_cell(folder: Path, splits: Splits) -> None:
    write_images(folder / "train", all_photos(splits))
    cells = [(p.name, str(list(box)), name) for p in all_photos(splits) for name, box in p.objects]
    put(folder / "train.csv", rows("image_id,bbox,class", cells))


def csv_automl(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    sets = {"train": "TRAIN", "test": "TEST"}
    cells = [
        (
            sets[split],
            f"gs://b/{p.name}",
            name,
            x1 / p.width,
            y1 / p.height,
            "",
            "",
            x2 / p.width,
            y2 / p.height,
            "",
            "",
        )
        for split, photos in splits.items()
        for p in photos
        for name, (x1, y1, x2, y2) in p.objects
    ]
    put(folder / "import.csv", rows("", ([repr(c) if isinstance(c, float) else c for c in row] for row in cells)))


def csv_kaggle(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        texts = [
            (p.stem, " ".join(f"{name} 1.0 {x1} {y1} {x2 - x1} {y2 - y1}" for name, (x1, y1, x2, y2) in p.objects))
            for p in photos
        ]
        put(folder / f"{split}.csv", rows("image_id,PredictionString", texts))


def csv_json_cells(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        cells = [
            (
                p.name,
                str(
                    [
                        {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "label": name}
                        for name, (x1, y1, x2, y2) in p.objects
                    ]
                ),
            )
            for p in photos
        ]
        put(folder / split / "metadata.csv", rows("file_name,annotations", cells))


def csv_makesense(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
    cells = [
        (name, x1, y1, x2 - x1, y2 - y1, p.name, p.width, p.height)
        for p in all_photos(splits)
        for name, (x1, y1, x2, y2) in p.objects
    ]
    head = "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height"
    put(folder / "labels_my-project.csv", rows(head, cells))


def csv_lisa(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split / "frames", photos)
        cells = [(f"frames/{p.name}", name, *map(float, box), "x.avi", 3) for p in photos for name, box in p.objects]
        corners = [f"{side} corner {axis}" for side in ("Upper left", "Lower right") for axis in "XY"]
        head = ",".join(("Filename", "Annotation tag", *corners, "Origin file", "Origin frame number"))
        put(folder / split / "frameAnnotationsBOX.csv", rows(head, cells, delimiter=";"))


def csv_class_numbers(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    write_images(folder / "train", all_photos(splits))
    cells = [
        (number, names.index(name), name, *map(float, box), p.name)
        for number, p in enumerate(all_photos(splits))
        for name, box in p.objects
    ]
    put(folder / "train.csv", rows("id,class_id,class_name,x_min,y_min,x_max,y_max,picture", cells))


def csv_spaces(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        lines = [
            f'"{photo.name}"  {" ".join(f"{side:g}" for side in box)} 0 "{name}"\n'
            for photo in photos
            for name, box in photo.objects
        ]
        put(folder / split / "labels.csv", "frame xmin ymin xmax ymax occluded label\n" + "".join(lines))


# Other text


def text_dota(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split / "images", photos)
        for photo in photos:
            lines = [
                f"{x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2} {name} 0\n"
                for name, box in photo.objects
                for x1, y1, x2, y2 in (map(float, box),)
            ]
            put(folder / split / "labelTxt" / f"{photo.stem}.txt", "".join(["gsd:null\n", *lines]))


def text_counted(folder: Path, splits: Splits) -> None:
    write_images(folder / "Images/001", all_photos(splits))
    for photo in all_photos(splits):
        lines = [f"{' '.join(map(str, box))} {name}\n" for name, box in photo.objects]
        put(folder / "Labels/001" / f"{photo.stem}.txt", "".join([f"{len(lines)}\n", *lines]))


def text_pascal(folder: Path, splits: Splits) -> None:
    write_images(folder / "PNGImages", all_photos(splits))
    for photo in all_photos(splits):
        lines = ["# PASCAL Annotation Version 1.00\n", f'Image filename : "PNGImages/{photo.name}"\n']
        for number, (name, (x1, y1, x2, y2)) in enumerate(photo.objects, start=1):
            lines += [f'Original label for object {number} "{name}" : "PennFudan"\n']
            where = f"(Xmin, Ymin) - (Xmax, Ymax) : ({x1}, {y1}) - ({x2}, {y2})"
            lines += [f'Bounding box for object {number} "{name}" {where}\n']
        put(folder / "Annotation" / f"{photo.stem}.txt", "".join(lines))


def text_keras(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    put(folder / "model_data/my_classes.txt", "\n".join(names))
    for split, photos in splits.items():
        write_images(folder / "images", photos)
        boxes = [[",".join(map(str, (*box, names.index(name)))) for name, box in photo.objects] for photo in photos]
        lines = [f"images/{photo.name} {' '.join(own)}\n" for photo, own in zip(photos, boxes, strict=True)]
        put(folder / f"{split}.txt", "".join(lines))


def text_list_of_spaces(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        lines = [
            f"{number} {split}/{p.name} {p.width} {p.height} "
            + " ".join(f"{name} {' '.join(map(str, box))}" for name, box in p.objects)
            for number, p in enumerate(photos)
        ]
        put(folder / f"{split}.txt", "".join(f"{line}\n" for line in lines))


# VIA


def via_entry(photo: Photo) -> dict[str, Any]:
    regions = [
        {
            "shape_attributes": {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1},
            "region_attributes": {"kind": name},
        }
        for name, (x1, y1, x2, y2) in photo.objects
    ]
    return {"filename": photo.name, "size": 123, "regions": regions, "file_attributes": {}}


def via(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        put_json(folder / split / "via_region_data.json", {f"{p.name}123": via_entry(p) for p in photos})


def via_project(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    entries = {f"{p.name}123": via_entry(p) for p in all_photos(splits)}
    for entry in entries.values():  # the older form: numbered regions
        entry["regions"] = {str(number): region for number, region in enumerate(entry["regions"])}
    put_json(folder / "via_project.json", {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}})


def via_csv(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        cells = []
        for photo in photos:
            regions = via_entry(photo)["regions"]
            for number, region in enumerate(regions):
                shape, attributes = json.dumps(region["shape_attributes"]), json.dumps(region["region_attributes"])
                cells.append((photo.name, 123, "{}", len(regions), number, shape, attributes))
        head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
        put(folder / split / "via_region_data.csv", rows(head, cells))


def via_3(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    write_images(folder / "images", all_photos(splits))
    numbered = {str(number): photo for number, photo in enumerate(all_photos(splits), start=1)}
    metadata = {
        f"{number}_{index}": {
            "vid": number,
            "flg": 0,
            "z": [],
            "xy": [2, x1, y1, x2 - x1, y2 - y1],
            "av": {"1": str(names.index(name))},
        }
        for number, photo in numbered.items()
        for index, (name, (x1, y1, x2, y2)) in enumerate(photo.objects)
    }
    content = {
        "project": {"pid": "x", "rev": "1", "pname": "set", "vid_list": list(numbered)},
        "config": {"ui": {}},
        "attribute": {"1": {"aname": "kind", "type": 4, "options": dict(zip("0123456789", names, strict=False))}},
        "file": {key: {"fid": key, "fname": photo.name, "type": 2, "src": ""} for key, photo in numbered.items()},
        "metadata": metadata,
        "view": {number: {"fid_list": [number]} for number in numbered},
    }
    put_json(folder / "via.json", content)


def via_3_csv(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    options = {"1": {"aname": "kind", "options": dict(zip("0123456789", names, strict=False))}}
    head = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"
    notes = f"# Exported using VGG Image Annotator (x)\n# ATTRIBUTE = {json.dumps(options)}\n# CSV_HEADER = {head}\n"
    for split, photos in splits.items():
        write_images(folder / split, photos)
        cells = [
            (
                f"{number}_{index}",
                json.dumps([photo.name]),
                0,
                "[]",
                json.dumps([2, x1, y1, x2 - x1, y2 - y1]),
                json.dumps({"1": str(names.index(name))}),
            )
            for number, photo in enumerate(photos, start=1)
            for index, (name, (x1, y1, x2, y2)) in enumerate(photo.objects)
        ]
        put(folder / split / "export.csv", notes + rows("", cells))


# LabelMe


def labelme_content(photo: Photo, path: str, *, corners: int = 2) -> dict[str, Any]:
    shapes = []
    for name, (x1, y1, x2, y2) in photo.objects:
        points = [[x1, y1], [x2, y2]] if corners == 2 else [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
        shapes.append({"label": name, "points": points, "group_id": None, "shape_type": "rectangle", "flags": {}})
    shapes.append({"label": "tip", "points": [[3, 3]], "group_id": None, "shape_type": "point", "flags": {}})
    content = {"version": "5.0.1", "flags": {}, "shapes": shapes, "imagePath": path, "imageData": None}
    return content | {"imageHeight": photo.height, "imageWidth": photo.width}


def labelme(folder: Path, splits: Splits) -> None:
    for photo in all_photos(splits):
        put_image(folder / photo.name, photo)
        put_json(folder / f"{photo.stem}.json", labelme_content(photo, photo.name))


def labelme_apart(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "images" / split, photos)
        for photo in photos:
            content = labelme_content(photo, f"..\\..\\images\\{split}\\{photo.name}", corners=4)
            put_json(folder / "json" / split / f"{photo.stem}.json", content)


# Other JSON


def json_sagemaker(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    for split, photos in splits.items():
        write_images(folder / split, photos)
        lines = [
            {
                "source-ref": f"s3://bucket/{split}/{photo.name}",
                "bounding-box": {
                    "image_size": [{"width": photo.width, "height": photo.height, "depth": 3}],
                    "annotations": [
                        {"class_id": names.index(name), "left": x1, "top": y1, "width": x2 - x1, "height": y2 - y1}
                        for name, (x1, y1, x2, y2) in photo.objects
                    ],
                },
                "bounding-box-metadata": {
                    "class-map": {str(number): name for number, name in enumerate(names)},
                    "objects": [{"confidence": 0.9} for _ in photo.objects],
                },
            }
            for photo in photos
        ]
        put(folder / f"{split}.manifest", "".join(f"{json.dumps(line)}\n" for line in lines))


def json_hugging_face(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "data" / split, photos)
        lines = [
            {
                "file_name": photo.name,
                "objects": {
                    "bbox": [[x1, y1, x2 - x1, y2 - y1] for _, (x1, y1, x2, y2) in photo.objects],
                    "categories": [name for name, _ in photo.objects],
                },
            }
            for photo in photos
        ]
        put(folder / "data" / split / "metadata.jsonl", "\n".join(map(json.dumps, lines)))


def json_azure(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "images", photos)
        lines = [
            {
                "image_url": f"AmlDatastore://store/images/{photo.name.replace(' ', '%20')}",
                "image_details": {"format": "jpg", "width": f"{photo.width}px", "height": f"{photo.height}px"},
                "label": [
                    {
                        "label": name,
                        "topX": x1 / photo.width,
                        "topY": y1 / photo.height,
                        "bottomX": x2 / photo.width,
                        "bottomY": y2 / photo.height,
                    }
                    for name, (x1, y1, x2, y2) in photo.objects
                ],
            }
            for photo in photos
        ]
        put(folder / f"{split}_annotations.jsonl", "\n".join(map(json.dumps, lines)))


def json_bdd(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "images" / split, photos)
        content = [
            {
                "name": photo.name,
                "attributes": {"weather": "clear"},
                "labels": [
                    {"id": number, "category": name, "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}
                    for number, (name, box) in enumerate(photo.objects)
                ],
            }
            for photo in photos
        ]
        lane = {"category": "lane", "poly2d": [{"vertices": [[1, 2], [3, 9]], "types": "LL"}]}
        content[0]["labels"].append(lane)  # type: ignore[union-attr]
        put_json(folder / f"labels/det_{split}.json", content)


def json_labelbox(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    lines = [
        {
            "data_row": {"id": "cl7", "external_id": photo.name, "row_data": f"https://storage.example/{number}"},
            "media_attributes": {"width": photo.width, "height": photo.height},
            "projects": {
                "cl8": {
                    "labels": [
                        {
                            "annotations": {
                                "objects": [
                                    {
                                        "feature_id": "cl9",
                                        "name": name,
                                        "annotation_kind": "ImageBoundingBox",
                                        "bounding_box": {"top": y1, "left": x1, "height": y2 - y1, "width": x2 - x1},
                                    }
                                    for name, (x1, y1, x2, y2) in photo.objects
                                ]
                            }
                        }
                    ]
                }
            },
        }
        for number, photo in enumerate(all_photos(splits))
    ]
    put(folder / "export.ndjson", "\n".join(map(json.dumps, lines)))


def json_v7(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split / "images", photos)
        for photo in photos:
            annotations = [
                {
                    "bounding_box": {"h": y2 - y1, "w": x2 - x1, "x": x1, "y": y1},
                    "id": "x",
                    "name": name,
                    "slot_names": ["0"],
                }
                for name, (x1, y1, x2, y2) in photo.objects
            ]
            annotations.append({"id": "y", "name": "blurred", "slot_names": ["0"], "tag": {}})
            slots = [{"type": "image", "width": photo.width, "height": photo.height}]
            content = {"version": "2.0", "item": {"name": photo.name, "slots": slots}, "annotations": annotations}
            put_json(folder / split / "annotations" / f"{photo.stem}.json", content)


def json_dataloop(folder: Path, splits: Splits) -> None:
    write_images(folder / "items", all_photos(splits))
    for photo in all_photos(splits):
        annotations = [
            {"label": name, "type": "box", "coordinates": [{"x": x1, "y": y1, "z": 0}, {"x": x2, "y": y2, "z": 0}]}
            for name, (x1, y1, x2, y2) in photo.objects
        ]
        content = {"id": "1", "filename": f"/{photo.name}", "annotations": annotations}
        put_json(folder / "json" / f"{photo.stem}.json", content)


def json_datumaro(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    for split, photos in splits.items():
        write_images(folder / "images" / split, photos)
        items = [
            {
                "id": photo.stem,
                "annotations": [
                    {"id": 0, "type": "bbox", "label_id": names.index(name), "bbox": [x1, y1, x2 - x1, y2 - y1]}
                    for name, (x1, y1, x2, y2) in photo.objects
                ],
                "image": {"path": photo.name, "size": [photo.height, photo.width]},
            }
            for photo in photos
        ]
        labels = {"label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in names]}}
        put_json(folder / f"annotations/{split}.json", {"info": {}, "categories": labels, "items": items})


def json_fiftyone(folder: Path, splits: Splits) -> None:
    write_images(folder / "data", all_photos(splits))
    samples = []
    for photo in all_photos(splits):
        w, h = photo.width, photo.height
        detections = [
            {"_cls": "Detection", "label": name, "bounding_box": [x1 / w, y1 / h, (x2 - x1) / w, (y2 - y1) / h]}
            for name, (x1, y1, x2, y2) in photo.objects
        ]
        guesses = [{"_cls": "Detection", "label": "cat", "bounding_box": [0.1, 0.1, 0.2, 0.2], "confidence": 0.7}]
        samples.append(
            {
                "filepath": f"data/{photo.name}",
                "metadata": {"width": w, "height": h},
                "ground_truth": {"_cls": "Detections", "detections": detections},
                "predictions": {"_cls": "Detections", "detections": guesses},
            }
        )
    put_json(folder / "samples.json", {"samples": samples})


def json_detectron2(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "img", photos)
        content = [
            {
                "file_name": f"/home/me/img/{photo.name}",
                "image_id": number,
                "annotations": [{"bbox": box, "bbox_mode": 0, "category": name} for name, box in photo.objects],
            }
            for number, photo in enumerate(photos)
        ]
        put_json(folder / f"{split}.json", content)


def json_of_names(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    content = {
        photo.name: [{"xmin": x1, "ymin": y1, "xmax": x2, "ymax": y2, "cls": "", "label": name}]
        for photo in all_photos(splits)
        for name, (x1, y1, x2, y2) in photo.objects[:1]
    }
    for photo in all_photos(splits):
        for name, (x1, y1, x2, y2) in photo.objects[1:]:
            content[photo.name].append({"xmin": x1, "ymin": y1, "xmax": x2, "ymax": y2, "label": name})
    put_json(folder / "labels.json", content)


def json_points(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "leftImg8bit" / split, [p._replace(name=p.name) for p in photos])
        for photo in photos:
            objects = [
                {"label": name, "polygon": [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]}
                for name, (x1, y1, x2, y2) in photo.objects
            ]
            content = {"imgHeight": photo.height, "imgWidth": photo.width, "objects": objects}
            put_json(folder / "labels" / split / f"{photo.stem}.json", content)


# Others


def cvat(folder: Path, splits: Splits) -> None:
    write_images(folder / "images", all_photos(splits))
    text = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta></meta>'
    for number, photo in enumerate(all_photos(splits)):
        text += f'<image id="{number}" name="{escape(photo.name)}" width="{photo.width}" height="{photo.height}">'
        for name, (x1, y1, x2, y2) in photo.objects:
            corners = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
            text += f'<box label="{escape(name)}" occluded="0" source="manual" {corners} z_order="0"></box>'
        text += '<points label="tip" points="3.00,3.00"></points></image>'
    put(folder / "annotations.xml", text + "</annotations>\n")


def imglab(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / "photos", photos)
        text = "<?xml version='1.0' encoding='ISO-8859-1'?>\n<?xml-stylesheet type='text/xsl' href='a.xsl'?>\n<dataset>"
        for photo in photos:
            text += f"<image file='photos/{escape(photo.name)}'>"
            for name, (x1, y1, x2, y2) in photo.objects:
                sides = f"top='{y1}' left='{x1}' width='{x2 - x1}' height='{y2 - y1}'"
                text += f"<box {sides}><label>{escape(name)}</label><part name='tip' x='{x1}' y='{y1}'/></box>"
            text += "</image>"
        text = text.replace("<dataset>", "<dataset><name>imglab dataset</name><images>")
        text = text.encode("ascii", "xmlcharrefreplace").decode()
        put(folder / f"{split}ing.xml", text + "</images></dataset>\n")


def createml(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        write_images(folder / split, photos)
        content = [
            {
                "image": photo.name,
                "annotations": [
                    {
                        "label": name,
                        "coordinates": {
                            "x": (x1 + x2) / 2,
                            "y": (y1 + y2) / 2,
                            "width": x2 - x1,
                            "height": y2 - y1,
                        },
                    }
                    for name, (x1, y1, x2, y2) in photo.objects
                ],
            }
            for photo in photos
        ]
        put_json(folder / split / "_annotations.createml.json", content)


def kitti(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        place = folder / f"{split}ing"
        for photo in photos:
            put_image(place / "image_2" / photo.name, photo)
            lines = [
                f"{name} 0.00 0 -1.57 {' '.join(f'{side:.2f}' for side in box)} 1.5 1.6 3.7 0 1.7 20 -1.5\n"
                for name, box in photo.objects
            ]
            put(place / "label_2" / f"{photo.stem}.txt", "".join(lines))


def cub(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    place = folder / "CUB_200_2011"
    lines: dict[str, list[str]] = {"images": [], "bounding_boxes": [], "image_class_labels": [], "train_test_split": []}
    number = 0
    for split, photos in splits.items():
        write_images(place / "images" / split, photos)
        for photo in photos:
            for name, (x1, y1, x2, y2) in photo.objects:  # a number has one class
                number += 1
                lines["images"].append(f"{number} {split}/{photo.name}")
                lines["bounding_boxes"].append(f"{number} {x1} {y1} {x2 - x1} {y2 - y1}")
                lines["image_class_labels"].append(f"{number} {names.index(name) + 1}")
                lines["train_test_split"].append(f"{number} {int(split == 'train')}")
    lines["classes"] = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    for file, own in lines.items():
        put(place / f"{file}.txt", "".join(f"{line}\n" for line in own))


def frame_number(photo: Photo) -> int:
    return int(photo.stem.lstrip(ascii_letters + " "))


def mot(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    put(folder / "labels.txt", "".join(f"{name}\n" for name in names))
    for split, photos in splits.items():
        place = folder / split / f"SEQ-{split[0]}"
        write_images(place / "img1", photos)
        lines = [
            f"{frame_number(photo)},{track},{x1},{y1},{x2 - x1},{y2 - y1},1,{names.index(name) + 1},1.0\n"
            for track, (photo, name, (x1, y1, x2, y2)) in enumerate(
                ((photo, name, box) for photo in photos for name, box in photo.objects), start=1
            )
        ]
        put(place / "gt/gt.txt", "".join(lines))
        put(place / "det/det.txt", "1,-1,3.5,4.5,10.5,11.5,0.9,-1,-1,-1\n")
        put(place / "seqinfo.ini", f"[Sequence]\nname=SEQ-{split[0]}\nimDir=img1\nseqLength={len(photos)}\n")


def ua_detrac(folder: Path, splits: Splits) -> None:
    for number, (split, photos) in enumerate(splits.items(), start=20011):
        sequence = f"MVI_{number}"
        write_images(folder / f"Insight-MVT_Annotation_{split.title()}" / sequence, photos)
        text = (
            f'<?xml version="1.0" encoding="utf-8"?>\n<sequence name="{sequence}"><sequence_attribute weather="sunny"/>'
        )
        for photo in photos:
            text += f'<frame density="{len(photo.objects)}" num="{frame_number(photo)}"><target_list>'
            for track, (name, (x1, y1, x2, y2)) in enumerate(photo.objects, start=1):
                text += f'<target id="{track}"><box left="{x1}" top="{y1}" width="{x2 - x1}" height="{y2 - y1}"/>'
                text += f'<attribute speed="6.8" vehicle_type="{escape(name)}"/></target>'
            text += "</target_list></frame>"
        put(folder / f"DETRAC-{split.title()}-Annotations-XML" / f"{sequence}.xml", text + "</sequence>\n")


def supervisely(folder: Path, splits: Splits) -> None:
    meta = {
        "classes": [{"title": name, "shape": "rectangle", "color": "#ff0000"} for name in classes(splits)],
        "tags": [],
    }
    put_json(folder / "meta.json", meta)
    for split, photos in splits.items():
        write_images(folder / split / "img", photos)
        for photo in photos:
            objects = [
                {
                    "classTitle": name,
                    "geometryType": "rectangle",
                    "tags": [],
                    "points": {"exterior": [[x1, y1], [x2, y2]], "interior": []},
                }
                for name, (x1, y1, x2, y2) in photo.objects
            ]
            content = {"description": "", "tags": [], "size": {"height": photo.height, "width": photo.width}}
            put_json(folder / split / "ann" / f"{photo.name}.json", content | {"objects": objects})


def vott(folder: Path, splits: Splits) -> None:
    write_images(folder, all_photos(splits))
    assets = {}
    for number, photo in enumerate(all_photos(splits)):
        regions = [
            {
                "id": "x",
                "type": "RECTANGLE",
                "tags": [name],
                "boundingBox": {"left": x1, "top": y1, "width": x2 - x1, "height": y2 - y1},
                "points": [{"x": x1, "y": y1}, {"x": x2, "y": y1}, {"x": x2, "y": y2}, {"x": x1, "y": y2}],
            }
            for name, (x1, y1, x2, y2) in photo.objects
        ]
        size = {"width": photo.width, "height": photo.height}
        asset = {"id": str(number), "name": photo.name, "path": f"file:C:/x/{photo.name}", "size": size, "state": 2}
        assets[str(number)] = {"asset": asset, "regions": regions, "version": "2.2.0"}
    tags = [{"name": name, "color": "#ff0000"} for name in classes(splits)]
    put_json(folder / "vott-json-export/set-export.json", {"name": "set", "tags": tags, "assets": assets})


def label_studio(folder: Path, splits: Splits) -> None:
    tasks = []
    for number, photo in enumerate(all_photos(splits), start=1):
        put_image(folder / "images" / photo.name, photo)
        results = [
            {
                "type": "rectanglelabels",
                "original_width": photo.width,
                "original_height": photo.height,
                "value": {
                    "x": x1 / photo.width * 100,
                    "y": y1 / photo.height * 100,
                    "width": (x2 - x1) / photo.width * 100,
                    "height": (y2 - y1) / photo.height * 100,
                    "rotation": 0,
                    "rectanglelabels": [name],
                },
            }
            for name, (x1, y1, x2, y2) in photo.objects
        ]
        data = {"image": f"/data/upload/1/0a1b2c3d-{quote(photo.name)}"}
        tasks.append({"id": number, "annotations": [{"id": number, "result": results}], "data": data})
    put_json(folder / "project-1-at-2024.json", tasks)


def label_studio_csv(folder: Path, splits: Splits) -> None:
    cells = []
    for number, photo in enumerate(all_photos(splits), start=1):
        put_image(folder / "images" / photo.name, photo)
        shapes = [
            {
                "x": x1 / photo.width * 100,
                "y": y1 / photo.height * 100,
                "width": (x2 - x1) / photo.width * 100,
                "height": (y2 - y1) / photo.height * 100,
                "rotation": 0,
                "rectanglelabels": [name],
                "original_width": photo.width,
                "original_height": photo.height,
            }
            for name, (x1, y1, x2, y2) in photo.objects
        ]
        cells.append((number, 1, number, f"/data/upload/1/0a1b2c3d-{quote(photo.name)}", json.dumps(shapes), 3.2))
    put(folder / "project-1.csv", rows("annotation_id,annotator,id,image,label,lead_time", cells))


def folders(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        for photo in photos:
            place = folder / {"train": "positive", "test": "testImages"}[split]
            put_image(place / photo.name, photo)
            boxes = "".join("\t".join(f"{side:g}" for side in box) + "\n" for _, box in photo.objects)
            put(place / f"{photo.stem}.bboxes.tsv", boxes)
            put(place / f"{photo.stem}.bboxes.labels.tsv", "".join(f"{name}\n" for name, _ in photo.objects))


def map_files(folder: Path, splits: Splits) -> None:
    names = classes(splits)
    numbered = enumerate(names, start=1)
    put(folder / "class_map.txt", "__background__\t0\n" + "".join(f"{name}\t{number}\n" for number, name in numbered))
    for split, photos in splits.items():
        write_images(folder / f"{split}_images", photos)
        images = "".join(f"{number}\t{split}_images/{p.name}\t0\n" for number, p in enumerate(photos))
        put(folder / f"{split}_img_file.txt", images)
        lines = [
            f"{number} |roiAndLabel "
            + " ".join(
                f"{' '.join(f'{side:g}' for side in box)} {names.index(name) + 1}" for name, box in photo.objects
            )
            for number, photo in enumerate(photos)
        ]
        put(folder / f"{split}_roi_file.txt", "".join(f"{line}\n" for line in lines))


class Layout(NamedTuple):
    """A format in one of its layouts."""

    format: str
    write: Write
    has_splits: bool
    files: str
    """What lies where, for the matrix in docs/data.md."""


LAYOUTS = {
    layout.write.__name__: layout
    for layout in (
        Layout("pascal_voc", voc, True, "Annotations/NAME.xml, JPEGImages/NAME.jpg, ImageSets/Main/train.txt"),
        Layout("pascal_voc", voc_devkit, True, "the same in VOCdevkit/VOC2007/"),
        Layout("pascal_voc", voc_apart, False, "annotations/NAME.xml, images/NAME.jpg"),
        Layout("pascal_voc", voc_beside, False, "NAME.xml beside NAME.jpg"),
        Layout("pascal_voc", voc_split_folders, True, "train/NAME.xml beside train/NAME.jpg"),
        Layout("pascal_voc", voc_split_suffixes, True, "train_xmls/NAME.xml, train_images/NAME.jpg"),
        Layout("pascal_voc", voc_split_subfolders, True, "data/train/annotations/NAME.xml, data/train/images/NAME.jpg"),
        Layout("text_boxes", text_dota, True, "train/labelTxt/NAME.txt, train/images/NAME.jpg (DOTA)"),
        Layout("text_boxes", text_counted, False, "Labels/001/NAME.txt, Images/001/NAME.jpg (BBox-Label-Tool)"),
        Layout("text_boxes", text_pascal, False, "Annotation/NAME.txt, PNGImages/NAME.png (Penn-Fudan, INRIA)"),
        Layout("text_lists", text_keras, True, "train.txt: path x1,y1,x2,y2,class ... (keras-yolo3)"),
        Layout("text_lists", text_list_of_spaces, True, "train.txt: number path width height class x1 y1 x2 y2 ..."),
        Layout("coco", coco, True, "annotations/instances_train.json, images/train/NAME.jpg"),
        Layout("coco", coco_split_folders, True, "train/_annotations.coco.json, train/NAME.jpg"),
        Layout("coco", coco_flat, True, "train.json, images/NAME.jpg; paths of another computer"),
        Layout("coco", coco_one_file, False, "labels.json, data/NAME.jpg"),
        Layout("coco", coco_other_keys, True, "keys annotation, filename; category 0; no sizes"),
        Layout("coco", coco_polygons, True, "annotations_train.json with polygons only; ids as text"),
        Layout("coco", coco_lvis, True, "lvis_v1_train.json: coco_url instead of file_name"),
        Layout("yolo", yolo, True, "data.yaml, images/train/NAME.jpg, labels/train/NAME.txt"),
        Layout("yolo", yolo_split_folders, True, "data.yaml, train/images/NAME.jpg, train/labels/NAME.txt"),
        Layout("yolo", yolo_yaml_elsewhere, True, "configs/set.yaml; polygons and boxes mixed"),
        Layout("yolo", yolo_darknet, True, "obj.data, obj.names, train.txt, obj/NAME.txt beside obj/NAME.jpg"),
        Layout("yolo", yolo_flat, False, "classes.txt, NAME.txt beside NAME.jpg"),
        Layout("yolo", yolo_two_folders, False, "classes.txt, labels/NAME.txt, images/NAME.jpg"),
        Layout("csv", csv_tensorflow, True, "train_labels.csv: filename,width,height,class,xmin,ymin,xmax,ymax"),
        Layout("csv", csv_split_folders, True, "train/_annotations.csv beside the images"),
        Layout("csv", csv_vott, False, "VoTT's CSV: image,xmin,ymin,xmax,ymax,label"),
        Layout("csv", csv_retinanet, True, "train.csv without column names: path,x1,y1,x2,y2,label"),
        Layout(
            "csv", csv_open_images, True, "train-annotations-bbox.csv: ImageID,LabelName,XMin,XMax,... in fractions"
        ),
        Layout("csv", csv_semicolons, True, "one CSV with a column split, semicolons and decimal commas"),
        Layout("csv", csv_one_cell, False, "train.csv with bbox [x, y, width, height]"),
        Layout("csv", csv_corners_in_one_cell, False, "train.csv with bbox [x1, y1, x2, y2], if the images say so"),
        Layout("csv", csv_automl, True, "Google AutoML's CSV: set,path,label,x1,y1,,,x2,y2,, in fractions"),
        Layout("csv_lists", csv_kaggle, True, "train.csv: image_id,PredictionString (Kaggle)"),
        Layout("csv_lists", csv_json_cells, True, "train/metadata.csv with a cell of JSON, as Python writes it"),
        Layout("csv", csv_makesense, True, "makesense.ai's CSV of images in train/ and test/"),
        Layout(
            "csv", csv_lisa, True, "LISA's frameAnnotationsBOX.csv: Filename;Annotation tag;Upper left corner X;..."
        ),
        Layout("csv", csv_class_numbers, False, "train.csv with numbers and names of classes (VinBigData)"),
        Layout("csv", csv_spaces, True, "train/labels.csv with spaces between the columns (Udacity)"),
        Layout("via", via, True, "train/via_region_data.json beside the images"),
        Layout("via", via_project, False, "via_project.json, images/NAME.jpg"),
        Layout("via", via_csv, True, "train/via_region_data.csv beside the images"),
        Layout("via", via_3, False, "VIA 3's project, images/NAME.jpg"),
        Layout("via", via_3_csv, True, "VIA 3's CSV beside the images"),
        Layout("labelme", labelme, False, "NAME.json beside NAME.jpg"),
        Layout("labelme", labelme_apart, True, "json/train/NAME.json, images/train/NAME.jpg (X-AnyLabeling)"),
        Layout("cvat", cvat, False, "annotations.xml (CVAT for images 1.1), images/NAME.jpg"),
        Layout("json", json_sagemaker, True, "train.manifest of AWS SageMaker and Rekognition"),
        Layout("json", json_hugging_face, True, "data/train/metadata.jsonl beside the images (Hugging Face)"),
        Layout("json", json_azure, True, "train_annotations.jsonl of Azure, in fractions"),
        Layout("json", json_bdd, True, "labels/det_train.json (BDD100K, Scalabel)"),
        Layout("json", json_labelbox, False, "export.ndjson (Labelbox)"),
        Layout("json", json_v7, True, "train/annotations/NAME.json, train/images/NAME.jpg (V7)"),
        Layout("json", json_dataloop, False, "json/NAME.json, items/NAME.jpg (Dataloop)"),
        Layout("json", json_datumaro, True, "annotations/train.json (Datumaro)"),
        Layout("json", json_fiftyone, False, "samples.json (FiftyOne)"),
        Layout("json", json_detectron2, True, "train.json: a list with file_name and annotations (detectron2)"),
        Layout("json", json_of_names, False, "labels.json: {NAME.jpg: [{xmin, ymin, xmax, ymax, label}, ...], ...}"),
        Layout("json", json_points, True, "labels/train/NAME.json with polygons (Cityscapes)"),
        Layout("imglab", imglab, True, "training.xml, testing.xml of imglab (dlib)"),
        Layout("createml", createml, True, "train/_annotations.createml.json beside the images"),
        Layout("kitti", kitti, True, "training/label_2/NAME.txt, training/image_2/NAME.jpg"),
        Layout(
            "mot", mot, True, "train/SEQ/gt/gt.txt, train/SEQ/img1/000001.jpg (MOT challenge, CVAT, VisDrone's videos)"
        ),
        Layout("cub", cub, True, "images.txt, bounding_boxes.txt, image_class_labels.txt, ... (CUB-200, NABirds)"),
        Layout("ua_detrac", ua_detrac, True, "SEQ.xml, SEQ/img00001.jpg"),
        Layout("supervisely", supervisely, True, "meta.json, train/ann/NAME.jpg.json, train/img/NAME.jpg"),
        Layout("vott", vott, False, "vott-json-export/NAME-export.json"),
        Layout("label_studio", label_studio, False, "its JSON export, images/NAME.jpg"),
        Layout("label_studio", label_studio_csv, False, "its CSV or TSV export"),
        Layout("folders", folders, True, "positive/, testImages/ with NAME.bboxes.tsv (CNTK's tutorial)"),
        Layout("map_files", map_files, True, "class_map.txt, train_img_file.txt, ... (CNTK's tutorial)"),
    )
}
