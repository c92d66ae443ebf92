"""Writing the report of a run."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn.config import LOCAL_SETTINGS, dump, flat, make_config, read_run_config
from frcnn.files import write_text
from frcnn.inference.runtimes import model_sha256
from frcnn.json_text import load_json
from frcnn.messages import duration, plural
from frcnn.report.evidence import collect
from frcnn.report.page import Background, render
from frcnn.run_files import (
    CONFIG_FILE,
    CURVES_FILE,
    DATA_REPORT_FILE,
    EVALUATION_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PLAN_FILE,
    REPORT_FILE,
)

if TYPE_CHECKING:
    from frcnn.data.records import Record
    from frcnn.evaluation.metrics import Metrics
    from frcnn.nn.faster_rcnn import FasterRCNN

_PACKAGES = ("frcnn", "torch", "torchvision", "timm")


def write_report(
    metrics: Metrics,
    file: Path,
    *,
    name: str,
    threshold: float,
    model: FasterRCNN | None = None,
    run_dir: Path | None = None,
    data: Path | None = None,
    others: Sequence[tuple[str, dict[str, Any]]] = (),
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the report of an evaluation, one HTML file.

    Args:
        metrics: with detections and records.
        name: the title.
        threshold: the least confidence of a detection, to begin with.
        model: says why objects were missed; None: it is not known.
        run_dir: of the training, whose settings and curves are shown; None: there is none.
        data: that was evaluated; None: that of the run.
        others: runs to compare with, see `metrics_of`.
        on_picture: called with the numbers of pictures done and in total.
    """
    evidence = collect(metrics, threshold=threshold, model=model, on_picture=on_picture)
    background = Background(
        name=_printable(name),
        evaluated_data="" if data is None else _printable(_name_of(data)),
        about=list(_about(metrics.records, run_dir)),
        others=[(_printable(other), values) for other, values in others],
        **({} if run_dir is None else _of_run(run_dir)),
    )
    write_text(file, render(metrics, evidence, background))


def report_file(data: Path | None, split: str | None) -> str:
    """The name of the report on this split of this data, so that each has a file of its own.

    Args:
        data: None: that of the run.
        split: None: "test", or all images of `data`.
    """
    own = [] if data is None else [_name_of(data)]
    own += [] if split is None or (data is None and split == "test") else [split]
    return "-".join([Path(REPORT_FILE).stem, *own]) + Path(REPORT_FILE).suffix


def metrics_of(run_dirs: Sequence[Path]) -> list[tuple[str, dict[str, Any]]]:
    """The name of each run directory, and what its metrics.json holds.

    Raises:
        FileNotFoundError: a run directory has none.
        ValueError: a file is damaged.
    """
    found = []
    for run_dir in run_dirs:
        file = run_dir / EVALUATION_FILE
        if not file.is_file():
            raise FileNotFoundError(f"{file}: there is none; `frcnn evaluate {run_dir}` writes it")
        found.append((run_dir.resolve().name, _read_object(file, f"`frcnn evaluate {run_dir}` writes it again")))
    return found


def _name_of(data: Path) -> str:
    return Path(os.path.abspath(data)).name


def _printable(name: str) -> str:
    """The name without bytes that are not UTF-8."""
    return name.encode(errors="replace").decode()


def _read_object(file: Path, remedy: str) -> dict[str, Any]:
    """Read a file with a JSON object.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = load_json(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: damaged, it must hold a JSON object; {remedy}")
    return content


def _of_run(run_dir: Path) -> dict[str, Any]:
    """The parts that a run directory has."""
    content: dict[str, Any] = {"store_command": "frcnn report RUN_DIR --store-threshold"}
    if (run_dir / CONFIG_FILE).is_file():
        values, defaults = flat(dump(read_run_config(run_dir))), flat(dump(make_config()))
        content["settings"] = [
            (setting, str(value), str(defaults.get(setting)))
            for setting, value in values.items()
            if value != defaults.get(setting) and setting not in LOCAL_SETTINGS
        ]
    if (run_dir / PLAN_FILE).is_file():
        content["plan"] = (run_dir / PLAN_FILE).read_text(encoding="utf-8", errors="replace")  # it is only shown
    if (run_dir / CURVES_FILE).is_file():
        content["curves"] = (run_dir / CURVES_FILE).read_bytes()
    if (run_dir / DATA_REPORT_FILE).is_file():
        content["data"] = _findings(run_dir / DATA_REPORT_FILE)
    return content


def _findings(file: Path) -> list[str]:
    """The problems of the data, as training counted them."""
    remedy = "delete it; only the report uses it"
    counts = _read_object(file, remedy).get("counts")
    try:
        return [f"{each['kind']} ({each['level']}): {plural(each['count'], 'case')}" for each in counts or ()]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({error!r}); {remedy}") from None


def _about(records: Sequence[Record], run_dir: Path | None) -> Iterator[tuple[str, str]]:
    """Versions, machine, time, and what identifies data and model."""
    yield "evaluated images (SHA-256 of names and boxes, first 16 digits)", _data_hash(records)
    if run_dir is not None:
        yield from _about_run(run_dir)
    yield "versions", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    yield (
        "machine of the evaluation",
        f"{plural(os.cpu_count() or 1, 'core')}, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}",
    )


def _about_run(run_dir: Path) -> Iterator[tuple[str, str]]:
    from frcnn.training.loggers import read_metrics

    if (run_dir / MODEL_FILE).is_file():
        yield f"{MODEL_FILE} (SHA-256, first 16 digits)", model_sha256(run_dir)[:16]
    if (run_dir / METRICS_FILE).is_file():
        yield "time of the training steps", duration(sum(each.get("seconds", 0) for each in read_metrics(run_dir)))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from its source
        return "?"


def _data_hash(records: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(f"{Path(record.image).name}\0{record.class_names}".encode("utf-8", "surrogateescape"))
        digest.update(record.boxes.tobytes())
    return digest.hexdigest()[:16]
