"""From a folder of data to a RUN folder: check everything, train, store."""

import errno
import gc
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from frcnn import processes
from frcnn.config import Config, dump_yaml, merge
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.loader import load_batch
from frcnn.files import remove_partial, write_text
from frcnn.nn.checkpoint import load, save
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.device import choose_device, choose_precision
from frcnn.nn.weights import MODEL_FILE, DetectorWeights, find_weights
from frcnn.training.checkpoint import Checkpoint, write_checkpoint
from frcnn.training.folder import (
    BEST_FILE,
    CONFIG_FILE,
    FAILED_STEP_FILE,
    LAST_FILE,
    UNFINISHED_FILE,
    is_finished,
    is_unfinished,
    locked,
    remove_leftovers,
    require_usable,
    run_folder,
    unfinished_run,
    why_not_resumed,
)
from frcnn.training.graphs import check_graphs, draw_graphs
from frcnn.training.loop import ProposalReport, StepReport, fit
from frcnn.training.metrics import Metrics, Report, check_logger, draw_curves
from frcnn.training.phases import phases_of
from frcnn.training.replay import NonFiniteLossError
from frcnn.training.schedule import images_per_step, warmup_steps
from frcnn.training.state import Best, TrainingState
from frcnn.training.validation import ValidationReport, validate

OnStep = Callable[[StepReport], None]
Log = Callable[[str], None]

FAST_IMAGES = 8
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
    resume: bool = False,
    on_step: OnStep = lambda report: None,
    log: Log = lambda line: None,
) -> tuple[FasterRCNN, Path]:
    """Train a detector on a folder of images and write a RUN folder.

    Nothing is written before the settings, the data and the weights have passed their checks. A training that was cut
    off goes on from its last checkpoint if it is called again, to the same weights as if nothing had happened. Started
    by torchrun, all processes train together, and the first one writes.

    Args:
        data: folder of images and boxes; None takes `data.path` of the settings.
        out: the RUN folder; it must not exist, be empty, or hold a training with these settings that was cut off. None
            takes runs/DATA-BASEMODEL, numbered if it exists.
        base_model, recipe: names of presets.
        weights: a file of the base model or of a detector, a RUN, "coco" (the detector trained on COCO), "auto" (the
            first source that has the base model's) or "none".
        config: YAML file of settings, e.g. a RUN's config.yaml.
        settings: "key=value" strings, e.g. ["train.epochs=5", "train.seed=1"].
        offline: never open a connection.
        resume: it is an error if there is no training to go on with.
        on_step: called after every step, in the first process.
        log: called with a line worth telling, in the first process.

    Returns:
        The trained detector, in evaluation mode, and its RUN folder.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: what is wrong with the input, and the way out.
        FloatingPointError: a loss is not finite; the step is kept in the RUN.
        OSError: the disk is full; the training can go on later.
    """
    with processes.joined():
        if not processes.is_first():
            on_step, log = lambda report: None, lambda line: None
        merged = _settings(data, out, base_model, recipe, weights, config, settings, resume)
        choice = _choose_run(merged, out, resume) if processes.is_first() else (Path(), None)
        run, trained = processes.from_first(choice)
        if trained is not None:
            log(f"{run} holds a trained model already; {trained}")
            return load(run), run
        if merged.train.export_native:  # what is missing is said before the training
            from frcnn.deploy.export import export, require_packages

            require_packages("onnx")
        detector = _train(merged, run, weights, offline=offline, on_step=on_step, log=log)
        if merged.train.export_native and processes.is_first():
            export(detector, "onnx", run / "model.onnx", log=log)
        return detector, run


def _settings(
    data: str | Path | None,
    out: str | Path | None,
    base_model: str | None,
    recipe: str | None,
    weights: str | None,
    config: str | Path | None,
    settings: Sequence[str],
    resume: bool,
) -> Config:
    """All settings, checked, with the data and weights that were named, so that config.yaml trains the same again."""
    if resume and data is None and config is None and out is not None and (Path(out) / CONFIG_FILE).is_file():
        config = Path(out) / CONFIG_FILE  # `--resume --out RUN` says it all
    merged = merge(
        base_model=base_model,
        recipe=recipe,
        file=Path(config) if config is not None else None,
        overrides=settings,
    )
    data = data if data is not None else merged.data.path
    if data is None:
        raise ValueError("no data: name a folder, or set data.path")
    where: dict[str, Any] = {"path": str(Path(data).resolve())}
    if merged.train.fast:
        where["num_test_images"] = min(merged.data.num_test_images or FAST_IMAGES, FAST_IMAGES)
    parts: dict[str, Any] = {"data": merged.data.model_copy(update=where)}
    if weights not in (None, "auto"):
        source = weights if weights in ("none", "coco") else str(Path(str(weights)).resolve())
        parts["base_model"] = merged.base_model.model_copy(update={"weights": source})
    return merged.model_copy(update=parts)


def _choose_run(config: Config, out: str | Path | None, resume: bool) -> tuple[Path, str | None]:
    """The RUN folder, and why there is nothing to train, if so."""
    name = f"{config.data.name or Path(str(config.data.path)).name}-{config.base_model.name}"
    run = Path(out) if out is not None else unfinished_run(name, config)
    if config.train.skip_if_trained and run is None:
        run = Path("runs") / name
    run = run if run is not None else run_folder(None, name)
    if is_finished(run) and (config.train.skip_if_trained or resume):
        remove_leftovers(run)
        return run, "there is nothing to resume" if resume else "training is skipped (train.skip_if_trained)"
    if resume and not is_unfinished(run):
        found = why_not_resumed(name, config) if out is None else f"{run}: no training that was cut off"
        raise FileNotFoundError(f"{found}; leave out --resume to begin one")
    require_usable(run, config)
    return run, None


def _train(config: Config, run: Path, weights: str | None, *, offline: bool, on_step: OnStep, log: Log) -> FasterRCNN:
    settings = config.train
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    if settings.deterministic and device.type == "cuda":
        raise ValueError("train.deterministic works on the CPU only; add --device cpu")
    check_logger(settings.logger)
    if settings.draw_graph:
        check_graphs()
    dataset = _dataset(config)
    detector = build(config, dataset, weights, offline=offline, log=log)
    size = images_per_step(settings)
    state = TrainingState(detector, phases_of(settings), -(-len(dataset.train) // size))
    for line in _summary(config, dataset, device, precision):
        log(line)

    run.mkdir(parents=True, exist_ok=True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(settings.deterministic or before)
    first = processes.is_first()
    try:
        with locked(run) if first else nullcontext():
            if first:
                remove_partial(run)
                write_text(run / UNFINISHED_FILE, "The same command goes on with this training.\n")
                write_text(run / CONFIG_FILE, dump_yaml(config))
            if first and settings.draw_graph:
                one = load_batch(dataset.train[:1], detector.classes, config.detector.image)
                files = draw_graphs(detector, state.phases, one, run, settings.graph_type)
                log(f"graphs in {', '.join(map(str, files))}")
            processes.gather(None)  # what all read is there
            if not (run / CONFIG_FILE).is_file():
                raise ValueError(f"{run}: must be in a folder that the machines of all processes see; set --out")
            checkpoint = Checkpoint(run, state, data=dataset.fingerprint(), device=device, precision=precision)
            kept = checkpoint.take_up()
            if state.step > 0:
                log(f"{run}: goes on after step {state.step} of {state.steps}")
            writer = Metrics(run, size=kept, logger=settings.logger, step=state.step) if first else nullcontext()
            with writer as metrics:
                _fit(
                    state,
                    dataset,
                    run,
                    checkpoint,
                    metrics,
                    device=device,
                    precision=precision,
                    on_step=on_step,
                    log=log,
                )
            return _store(state, run, log)
    except NonFiniteLossError as error:
        file = run / FAILED_STEP_FILE
        note = f"{file} keeps this step for frcnn.training.replay"
        if first:
            try:
                write_checkpoint(file, error.step)
            except OSError as full:
                note = f"this step could not be kept ({full})"
        raise FloatingPointError(f"{error}; {note}") from error
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OSError(
            f"{run}: no space left on the disk ({error}); make some, and the same command goes on from the last "
            f"checkpoint"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)


def _dataset(config: Config) -> Dataset:
    dataset = open_dataset(Path(str(config.data.path)), config.data)
    if config.train.validate_every is not None and not any(record.names for record in dataset.val):
        raise ValueError(
            "train.validate_every: there are no validation images with objects; set data.val_fraction, e.g. 0.2, "
            "or data.val_set"
        )
    if config.train.validate_every is None and config.data.val_fraction > 0:
        raise ValueError("data.val_fraction sets images aside that nothing measures; set train.validate_every too")
    if not config.train.fast:
        return dataset
    with_objects = [index for index, record in enumerate(dataset.train) if record.names]
    without = [index for index, record in enumerate(dataset.train) if not record.names][: FAST_IMAGES // 4]
    chosen = with_objects[: FAST_IMAGES - len(without)] + without
    val = sorted(range(len(dataset.val)), key=lambda index: not dataset.val[index].names)[:FAST_IMAGES]
    return dataset._replace(train=dataset.train.take(chosen), val=dataset.val.take(sorted(val)))


def _summary(config: Config, dataset: Dataset, device: torch.device, precision: torch.dtype) -> Iterator[str]:
    settings, size = config.train, min(images_per_step(config.train), len(dataset.train))
    objects = sum(len(record.names) for record in dataset.train)
    val = f"; {len(dataset.val)} validation images" if dataset.val else ""
    val += " (train.validate_every measures on them)" if dataset.val and settings.validate_every is None else ""
    yield (
        f"{dataset.name}: {len(dataset.train)} training images, {objects} objects, {len(dataset.classes)} classes" + val
    )
    kinds = Counter(problem.kind for problem in dataset.warnings)
    warnings = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    if warnings:
        yield f"left out, or odd: {warnings}; `frcnn check {config.data.path}` shows each"
    else:
        yield f"`frcnn check {config.data.path}` looks for more than errors: copies, odd boxes, anchors that do not fit"
    slow = device.type == "cpu" and precision == torch.float16
    yield (
        f"training on {device.type}, layers in {str(precision).removeprefix('torch.')}"
        + ("; most processors compute it slowly, so fp32 or bf16 may be several times faster" if slow else "")
    )
    if size > 1:
        shares = [
            f"{count} {what}"
            for count, what in (
                (settings.batch_size, "in a batch"),
                (settings.accumulate, "batches"),
                (processes.count(), "processes"),
            )
            if count > 1
        ]
        yield (
            f"{size} images a step ({' x '.join(shares)}), so the learning rate is {size} times that of one image, "
            f"reached in {warmup_steps(settings)} steps"
        )


def _fit(
    state: TrainingState,
    dataset: Dataset,
    run: Path,
    checkpoint: Checkpoint,
    metrics: Metrics | None,
    *,
    device: torch.device,
    precision: torch.dtype,
    on_step: OnStep,
    log: Log,
) -> None:
    """Train to the end, with checkpoints and measurements on the way. Only the first process has metrics."""
    patience = state.detector.config.train.patience

    def record(report: Report) -> None:
        if metrics is not None:
            metrics.write(report)

    for report in fit(state, dataset.train, folder=run, device=device, precision=precision):
        record(report)
        if isinstance(report, ProposalReport):
            found = ", ".join(f"{share:.4f} at {count}" for count, share in report.recall.items())
            log(f"proposals for phase '{report.phase}': recall {found}")
            continue
        on_step(report)
        measured = _is_measured(state)
        if measured:
            validation = validate(state.outcome, dataset.val, epoch=state.position.total_epoch, step=state.step)
            record(validation)
            log(f"epoch {validation.epoch}: mean AP {validation.mean_ap:.4f}, validation loss {validation.loss:.4f}")
            _keep_best(state, validation, run)
            if state.best is not None and patience is not None and state.best.waited >= patience:
                log(f"no better measurement in {patience}; training ends")
                return
        if state.step == state.steps:
            return
        if metrics is not None and (measured or state.position.begins_phase or checkpoint.is_due):
            checkpoint.write(metrics.sync())


def _is_measured(state: TrainingState) -> bool:
    """Does an epoch end after which the detector is measured? In the last phase, where its parts belong together."""
    every, last = state.detector.config.train.validate_every, len(state.phases) - 1
    if every is None or state.position.step > 0:
        return False
    if state.step == state.steps:
        return True
    return state.position.phase == last and state.position.epoch > 0 and state.position.epoch % every == 0


def _keep_best(state: TrainingState, validation: ValidationReport, run: Path) -> None:
    best = state.best
    if best is None or math.isnan(best.mean_ap) or (validation.mean_ap, -validation.loss) > (best.mean_ap, -best.loss):
        state.best = Best(validation.mean_ap, validation.loss, validation.epoch, 0)
        if processes.is_first():
            save(state.outcome, run / BEST_FILE)
    else:
        state.best = best._replace(waited=best.waited + 1)


def _store(state: TrainingState, run: Path, log: Log) -> FasterRCNN:
    """Put the model into the RUN, the best if it was measured, and remove what only served to go on."""
    detector = state.outcome.eval()
    if processes.is_first():
        if state.best is None:
            save(detector, run / MODEL_FILE)
        else:
            save(detector, run / LAST_FILE)
            os.replace(run / BEST_FILE, run / MODEL_FILE)
        remove_leftovers(run)
        draw_curves(run)
    processes.gather(None)  # the model is there
    if state.best is None:
        return detector
    log(f"{MODEL_FILE} has the weights of epoch {state.best.epoch}, the best; {LAST_FILE} those of the last")
    return load(run, device=detector.config.train.device)


def build(
    config: Config, dataset: Dataset, weights: str | None, *, offline: bool, log: Log = lambda line: None
) -> FasterRCNN:
    """The untrained detector for a data set; the same for the same seed."""
    torch.manual_seed(config.train.seed)
    weights_found = find_weights(config.base_model, weights, offline=offline)
    gc.collect()  # a former detector: recorded graphs are cycles, and Python seldom looks for these
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


def _layers(parameters: Iterable[str]) -> str:
    names = [name.rpartition(".")[0].removeprefix("roi_head.head.") for name in parameters]
    return ", ".join(dict.fromkeys(names))
