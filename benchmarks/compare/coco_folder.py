"""Write images of a data set as a COCO folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frcnn.data.records import Record


def write_coco(images: Sequence[Record], folder: Path) -> Path:
    """Link each image as INDEX.SUFFIX and write annotations.json. `folder` must not exist."""
    folder.mkdir()
    names = sorted({name for record in images for name in record.class_names})
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    for index, record in enumerate(images):
        link = folder / f"{index}{record.image.suffix}"
        link.symlink_to(record.image.resolve())
        content["images"].append({"id": index, "file_name": link.name})
        for box, name, ignore in zip(record.boxes, record.class_names, record.ignore.tolist(), strict=True):
            x1, y1, x2, y2 = box.tolist()
            label = {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": names.index(name) + 1, "iscrowd": int(ignore)}
            content["annotations"].append({"id": len(content["annotations"]) + 1, "image_id": index, **label})
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder
