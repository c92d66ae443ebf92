"""From a folder of data to a RUN folder: check everything, train, store."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from frcnn.config import Config, dump_yaml, merge
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.files import write_text
from frcnn.nn.checkpoint import load, save
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.device import choose_device, choose_precision
from frcnn.nn.weights import MODEL_FILE, DetectorWeights, find_weights
from frcnn.training.loop import StepReport, fit
from frcnn.training.phases import end_to_end

OnStep = Callable[[StepReport], None]
Log = Callable[[str], None]


def train(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    base_model: str | None = None,
    recipe: str | None = None,
    weights: str | None = "auto",
    config: str | Path | None = None,
    settings: Sequence[str] = (),
    offline: bool = False,
    on_step: OnStep = lambda report: None,
    log: Log = lambda line: None,
) -> tuple[FasterRCNN, Path]:
    """Train a detector on a folder of images and write a RUN folder.

    Nothing is written before the settings, the data and the weights have passed their checks.

    Args:
        data: folder of images and boxes; None takes `data.path` of the settings.
        out: the RUN folder; it must not exist or be empty. None takes runs/DATA-BASEMODEL, numbered if it exists.
        base_model, recipe: names of presets.
        weights: a file of the base model or of a detector, a RUN, "coco" (the detector trained on COCO), "auto" (the
            first source that has the base model's) or "none".
        config: YAML file of settings, e.g. a RUN's config.yaml.
        settings: "key=value" strings, e.g. ["train.epochs=5", "train.seed=1"].
        offline: never open a connection.
        on_step: called after every step.
        log: called with a line worth telling.

    Returns:
        The trained detector, in evaluation mode, and its RUN folder.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: what is wrong with the input, and the way out.
        FloatingPointError: a loss is not finite.
    """
    merged = merge(
        base_model=base_model,
        recipe=recipe,
        file=Path(config) if config is not None else None,
        overrides=settings,
    )
    data = data if data is not None else merged.data.path
    if data is None:
        raise ValueError("no data: name a folder, or set data.path")
    merged = _with_sources(merged, Path(data).resolve(), weights)
    name = f"{merged.data.name or Path(data).resolve().name}-{merged.base_model.name}"
    if merged.train.skip_if_trained:
        run = Path(out) if out is not None else Path("runs") / name
        if (run / MODEL_FILE).is_file():
            log(f"{run} holds a trained model already; training is skipped (train.skip_if_trained)")
            return load(run), run
    else:
        run = run_folder(out, name)
    _require_free(run)

    dataset = open_dataset(Path(data), merged.data)
    detector = build(merged, dataset, weights, offline=offline, log=log)
    device = choose_device(merged.train.device)
    if merged.train.deterministic and device.type == "cuda":
        raise ValueError("train.deterministic works on the CPU only; add --device cpu")
    precision = choose_precision(merged.train.precision, device)
    log(
        f"{dataset.name}: {len(dataset.train)} training images, "
        f"{sum(len(record.names) for record in dataset.train)} objects, {len(dataset.classes)} classes"
    )
    log(f"training on {device.type}, layers in {str(precision).removeprefix('torch.')}")

    run.mkdir(parents=True, exist_ok=True)
    write_text(run / "config.yaml", dump_yaml(merged))
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(merged.train.deterministic or before)
    try:
        _fit(detector, dataset, run, device=device, precision=precision, on_step=on_step)
    finally:
        torch.use_deterministic_algorithms(before)
    return detector, run


def _fit(
    detector: FasterRCNN, dataset: Dataset, run: Path, *, device: torch.device, precision: torch.dtype, on_step: OnStep
) -> None:
    """Train, with a line of metrics.jsonl for each step, and store the model."""
    phases = end_to_end(detector.config.train)
    with (run / "metrics.jsonl").open("w", encoding="utf-8", buffering=1) as metrics:
        for report in fit(detector, dataset.train, phases, device=device, precision=precision):
            metrics.write(json.dumps(report._asdict()) + "\n")
            on_step(report)
    save(detector, run / MODEL_FILE)


def build(
    config: Config, dataset: Dataset, weights: str | None, *, offline: bool, log: Log = lambda line: None
) -> FasterRCNN:
    """The untrained detector for a data set; the same for the same seed."""
    torch.manual_seed(config.train.seed)
    weights_found = find_weights(config.base_model, weights, offline=offline)
    detector = FasterRCNN(config, dataset.classes, weights_found)
    if weights_found is None:
        log(f"base model {config.base_model.name}: starts from random weights")
        return detector
    log(f"base model {config.base_model.name}: weights from {weights_found.source}")
    if isinstance(weights_found, DetectorWeights):
        for text, names in (
            ("classes that the weights know, kept", [c for c in dataset.classes if c in weights_found.classes]),
            ("new classes, which start fresh", [c for c in dataset.classes if c not in weights_found.classes]),
        ):
            log(f"{text}: {', '.join(names) or 'none'}")
    else:
        fresh = sorted(name for name in detector.fresh if name.startswith("roi_head.head."))
        if fresh:
            log(f"the weights lack the box head's layers, which start fresh: {_layers(fresh)}")
    return detector


def run_folder(out: str | Path | None, name: str) -> Path:
    """The folder asked for, or the first free one of runs/name, runs/name-2, ..."""
    if out is not None:
        return Path(out)
    candidates = [Path("runs") / name, *(Path("runs") / f"{name}-{number}" for number in range(2, 10_000))]
    return next(folder for folder in candidates if not folder.exists())


def _with_sources(config: Config, data: Path, weights: str | None) -> Config:
    """The settings with the data and weights that were named, so that config.yaml trains the same again."""
    parts: dict[str, Any] = {"data": config.data.model_copy(update={"path": str(data)})}
    if weights not in (None, "auto"):
        source = weights if weights in ("none", "coco") else str(Path(str(weights)).resolve())
        parts["base_model"] = config.base_model.model_copy(update={"weights": source})
    return config.model_copy(update=parts)


def _require_free(run: Path) -> None:
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise FileExistsError(
            f"{run}: exists and is not overwritten; choose another folder with --out, or delete it first"
        )


def _layers(parameters: Iterable[str]) -> str:
    names = [name.rpartition(".")[0].removeprefix("roi_head.head.") for name in parameters]
    return ", ".join(dict.fromkeys(names))
