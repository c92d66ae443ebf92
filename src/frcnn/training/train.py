"""Training, from a folder of images and boxes to a run directory."""

import difflib
import inspect
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Never

import torch

from frcnn import distributed
from frcnn.config import (
    Config,
    local_settings,
    make_config,
    read_run_config,
    set_names,
    with_arguments,
    with_settings,
)
from frcnn.config.merge import OF_THE_DATA, hint_for, similar_settings
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.image_cache import ImageCache, disk_limit, memory_limit
from frcnn.data.loader import batch_to, load_batch
from frcnn.data.records import Records
from frcnn.detector import Detector
from frcnn.evaluation.evaluate import evaluate, unknown_counts
from frcnn.evaluation.metrics import Metrics
from frcnn.files import as_path, write_text
from frcnn.inference.runtimes import TorchRuntime
from frcnn.nn.device import choose_device, choose_precision
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.model_file import load_model, save_model
from frcnn.planning.choices import EPOCHS, Choice, within_budget
from frcnn.planning.plan import Plan, as_trained, plan_for
from frcnn.run_files import (
    BEST_FILE,
    CACHE_FOLDER,
    CONFIG_FILE,
    DATA_REPORT_FILE,
    EVALUATION_FILE,
    LAST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PLAN_FILE,
)
from frcnn.training.callbacks import Callback
from frcnn.training.checkpoint import Checkpoint
from frcnn.training.debug_step import NonFiniteLossError, save_failed_step
from frcnn.training.draw_graph import check_graphs, draw_graphs
from frcnn.training.engine import fit
from frcnn.training.estimate import estimate_seconds
from frcnn.training.initial_model import initial_model
from frcnn.training.loggers import MetricsLogger, TensorBoardLogger, check_logger, draw_curves
from frcnn.training.progress import ProgressBar
from frcnn.training.reports import StartReport
from frcnn.training.run_dir import (
    choose_run_dir,
    claimed,
    is_unfinished,
    locked,
    mark_finished,
    mark_trained,
    remove_leftovers,
    trained_on,
)
from frcnn.training.schedule import images_per_step
from frcnn.training.schemes import phases_of
from frcnn.training.state import Best, TrainingState

SMOKE_TEST_IMAGES = 8
_SHORT = 100
"""A training with fewer steps is not timed."""
_OUTPUT_FOLDERS = ("project", "name", "save_dir", "output_dir", "run_dir")
"""What other libraries call `out`."""


@dataclass(frozen=True, repr=False)
class TrainResult:
    """The result of `train`."""

    run_dir: Path
    detector: Detector
    """On the device that it was trained on; `detector.model` is the PyTorch model."""
    dataset: Dataset
    metrics: Metrics | None
    """On the test images; None if there are none."""
    trained: bool = True
    """False if the run directory held a trained model already."""
    plan: Plan | None = None
    """The settings that were chosen to fit the data; None without a plan, or if `trained` is False."""
    best: Best | None = None
    """The validation whose weights the detector has; None without validation, or if `trained` is False."""

    def __repr__(self) -> str:
        return f"<TrainResult {self.run_dir}: {'no test images' if self.metrics is None else repr(self.metrics)}>"


def train(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    base_model: str | None = None,
    recipe: str | None = None,
    weights: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | Sequence[float] | None = None,
    scheme: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    split: Sequence[float] | None = None,
    format: str | None = None,
    val_fraction: float | None = None,
    validate_every: int | None = None,
    patience: int | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    plan: bool = True,
    budget: float | None = None,
    offline: bool = False,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    **unknown: Never,
) -> TrainResult:
    """Train a detector on a folder of images and boxes, and evaluate it on the test images.

    Settings that you do not name are chosen to fit the data; see `frcnn.plan`. The settings, the data and the weights
    are checked before anything is written. An interrupted run resumes from its last checkpoint if `train` is called
    again with the same arguments, and ends with bit-identical weights. Under torchrun, all processes train together,
    and the main process writes.

    Arguments that are None keep the values of `settings`, `config` or the preset; `frcnn config` lists all settings.

    Args:
        data: the folder, in any supported format; None: that of the run directory that holds `config`, or of the
            interrupted run in `out`, with `resume`.
        out: the run directory: a new or empty folder, or an interrupted run with these settings. None:
            runs/DATA-BASEMODEL, or the next free runs/DATA-BASEMODEL-N.
        base_model: name of a base model, e.g. "resnet50-fpn", or path of a YAML file.
        recipe: name of a recipe.
        weights: a file of weights of the base model or of a detector; a run directory; "coco" (a detector trained on
            COCO); "none" (random weights); None or "auto": the first source that has the base model's weights.
        epochs: passes over the training images.
        batch_size: images that go through the detector at once, in each process.
        lr: learning rate for a step of one image; it is multiplied by the images per step. A sequence gives one rate
            per epoch; the last one holds for later epochs.
        scheme: "end_to_end" or "alternating".
        seed: of everything random.
        device: "auto" (cuda if available, else cpu), "cpu", "cuda" or "mps" (an Apple GPU).
        precision: of the layers: "auto", "fp32", "bf16" or "fp16".
        split: fractions of the images for training, validation and test, for data without splits of its own. An 80/20
            split is (0.8, 0, 0.2): `metrics` of the result is of the last part.
        format: of the data, e.g. "coco"; None: auto-detected.
        val_fraction: fraction of the training images to validate on instead of training on them.
        validate_every: epochs between validations. The weights of the best validation are stored.
        patience: stop early after this number of validations without a better one.
        settings: any other settings, by dotted name, e.g. {"detector.image.shorter_side": 800,
            "detector.image.longer_side": 1333} for larger inputs. The arguments above win.
        config: YAML file of settings, e.g. config.yaml of a run directory, or a plan.
        plan: choose the settings that you do not name, to fit the data; False: use the defaults. A recipe is used as it
            is, without a plan.
        budget: time for training, seconds. It replaces the epochs by as many as fit, at most three times as many. The
            validations and the evaluation come on top.
        offline: never open a connection.
        resume: raise an error if there is no run to resume.
        callbacks: hooks that log or stop training.
        progress: show a progress bar in a terminal or notebook.
        unknown: no other argument is accepted; the error says what to use instead.

    Returns:
        The run directory, the detector, and its metrics on the test images.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: something is wrong with the arguments, the data or the weights.
        FloatingPointError: a loss is infinite or NaN; the step is saved in the run directory.
        OSError: the disk is full; the run can resume later.
        TypeError: an unknown argument.
    """
    given = {
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "train.scheme": scheme,
        "train.seed": seed,
        "train.device": device,
        "train.precision": precision,
        "train.validate_every": validate_every,
        "train.patience": patience,
        "train.budget": budget,
        "data.split": split,
        "data.format": format,
        "data.val_fraction": val_fraction,
    }
    for name in unknown:
        raise TypeError(f"train() got an unexpected keyword argument '{name}'. {_argument_for(name, given)}")
    if settings is not None and not isinstance(settings, Mapping):
        raise TypeError(f'settings: {settings!r} must be a mapping, e.g. {{"train.momentum": 0.8}}')
    overrides = with_arguments(settings, given)
    with distributed.process_group(), ExitStack() as claim:
        if resume and data is None and config is None and out is not None and (Path(out) / CONFIG_FILE).is_file():
            config = Path(out) / CONFIG_FILE
        file = None if config is None else Path(config)
        local = {} if file is None else local_settings(file)
        merged = make_config(base_model=base_model, recipe=recipe, file=file, overrides=local | overrides)
        merged = _with_sources(merged, data, weights)
        callbacks = [*([ProgressBar()] if progress else []), *callbacks] if distributed.is_main_process() else []
        dataset = start = None
        if distributed.is_main_process():
            planned = None
            if plan and recipe is None:
                dataset = _open_dataset(merged)
                named = set_names(file, local | overrides, base_model)
                source = None if weights is None else str(weights)
                planned = plan_for(dataset, merged, named, weights=source)
                merged = planned.config
            start = _Start(merged, planned, *_choose_run_dir(merged, out, dataset, resume=resume))
        merged, planned, run_dir, has_model = distributed.broadcast_object(start)  # type: ignore[misc]
        if has_model:
            if is_unfinished(run_dir) and distributed.is_main_process():
                claim.enter_context(locked(run_dir))
            dataset = open_dataset(Path(str(merged.data.path)), merged.data, ("test",))
            model, best, planned = load_model(run_dir, device=merged.train.device), None, None
        else:
            dataset = dataset or _open_dataset(merged)
            if merged.train.smoke_test:
                dataset = _few_images(dataset)
            model, best, planned = _train(
                merged, planned, dataset, run_dir, weights, claim, offline=offline, callbacks=callbacks
            )
        if not has_model or is_unfinished(run_dir):
            _draw_and_export(merged, model, dataset, run_dir, callbacks)
        metrics = _evaluate(model, dataset, run_dir, callbacks, merged.data.workers)
        if distributed.is_main_process():
            mark_finished(run_dir)
        return TrainResult(run_dir, Detector(model, path=run_dir), dataset, metrics, not has_model, planned, best)


def _argument_for(name: str, arguments: Collection[str]) -> str:
    """What to use instead of an unknown argument.

    Args:
        arguments: the settings that are arguments too.
    """
    if name in _OUTPUT_FOLDERS:
        return "Did you mean out, the run directory?"
    close = difflib.get_close_matches(name, inspect.signature(train).parameters, n=1, cutoff=0.8)
    if close:
        return f"Did you mean {close[0]}?"
    similar = similar_settings(name)
    if name in OF_THE_DATA or not similar:
        return hint_for(name)
    arguments = {"base_model.name", "base_model.weights", *arguments}
    names = (
        each.removesuffix(".name").rpartition(".")[2] if each in arguments else f"settings={{'{each}': ...}}"
        for each in similar
    )
    return f"Did you mean {' or '.join(names)}?"


def _with_sources(config: Config, data: str | Path | None, weights: str | Path | None) -> Config:
    """The settings with the data and weights that the caller named, so that config.yaml trains the same again."""
    data = data if data is not None else config.data.path
    if data is None:
        raise ValueError("no data: name a folder, or set data.path")
    data_update: dict[str, Any] = {"path": str(as_path(data, "data").resolve())}
    if config.train.smoke_test:
        data_update["num_test_images"] = min(config.data.num_test_images or SMOKE_TEST_IMAGES, SMOKE_TEST_IMAGES)
    updated: dict[str, Any] = {"data": config.data.model_copy(update=data_update)}
    if weights not in (None, "auto"):
        source = str(weights) if weights in ("none", "coco") else str(Path(str(weights)).resolve())
        updated["base_model"] = config.base_model.model_copy(update={"weights": source})
    return config.model_copy(update=updated)


class _Start(NamedTuple):
    """What the main process decides for all processes."""

    config: Config
    plan: Plan | None
    run_dir: Path
    has_model: bool
    """Whether it holds the trained model already."""


def _train(
    config: Config,
    plan: Plan | None,
    dataset: Dataset,
    run_dir: Path,
    weights: str | Path | None,
    claim: ExitStack,
    *,
    offline: bool,
    callbacks: Sequence[Callback],
) -> tuple[FasterRCNN, Best | None, Plan | None]:
    """Train or resume. Returns the model that is stored, the best validation, and the plan.

    Args:
        claim: keeps other trainings out of the run directory until it is closed.
    """
    device, precision = _check(config)
    source = None if weights is None else str(weights)
    model, initial = initial_model(config, dataset.classes, source, offline=offline)
    train, budget = as_trained(dataset.train, config), config.train.budget
    config, plan, seconds = _timed(config, plan, model.to(device), train, run_dir, precision)
    settings, graphs, phases = config.train, list[Path](), phases_of(config.train)

    claim.enter_context(claimed(run_dir, config, budget))
    with _deterministic(settings.deterministic):
        if settings.draw_graph and distributed.is_main_process():
            example = load_batch(train[:1], model.classes, config.detector.resizing)
            graphs = draw_graphs(model, settings, phases, batch_to(example, device), run_dir)
        steps_per_epoch = -(-len(train) // images_per_step(settings))
        state = TrainingState(model, settings, phases, steps_per_epoch, precision)
        checkpoint = Checkpoint(run_dir, state, data=dataset.fingerprint())
        checkpoint.restore()
        if distributed.is_main_process():
            write_text(run_dir / DATA_REPORT_FILE, dataset.report())
            if plan is not None and not (run_dir / PLAN_FILE).is_file():
                write_text(run_dir / PLAN_FILE, plan.to_yaml())
            board = [TensorBoardLogger(run_dir)] if settings.logger == "tensorboard" else []
            callbacks = [MetricsLogger(run_dir), *board, *callbacks]
        cache = _image_cache(config.data.cache, run_dir)
        size, step, steps = state.images_per_step, state.step, state.steps
        start = StartReport(
            run_dir, config, plan, dataset, device, precision, size, initial, graphs, step, steps, seconds
        )
        try:
            for callback in callbacks:
                callback.on_start(start, state)
            fit(
                state,
                train,
                dataset.val,
                run_dir=run_dir,
                callbacks=callbacks,
                checkpoint=checkpoint,
                workers=config.data.workers,
                read=cache.read,
            )
        except NonFiniteLossError as error:
            raise save_failed_step(error, run_dir) from error
        finally:
            cache.close()
            for callback in callbacks:
                callback.on_end(state)
        return _store(state, run_dir, dataset.fingerprint()), state.best, plan


def _image_cache(where: str, run_dir: Path) -> ImageCache:
    """The cache of this process's training images."""
    folder = run_dir / CACHE_FOLDER / str(distributed.rank()) if where == "disk" else None
    return ImageCache(_cache_limit(where, run_dir), folder)


def _cache_limit(where: str, folder: Path) -> int:
    """Bytes that the cache of this process may take. All processes together use a part of the memory or of the disk.

    Args:
        folder: on the disk that the cache may use.
    """
    limit = {"none": 0, "memory": memory_limit(), "disk": disk_limit(folder)}[where]
    return limit // distributed.world_size()


def _timed(
    config: Config, plan: Plan | None, model: FasterRCNN, train: Records, run_dir: Path, precision: torch.dtype
) -> tuple[Config, Plan | None, float | None]:
    """The settings and the plan with as many epochs as `train.budget` allows, and without the budget; and how long
    training will take, seconds; None: it is short, or it resumes. A training that resumes keeps its epochs."""
    settings, start = config.train, time.monotonic()
    names = EPOCHS[settings.scheme]
    steps = sum(phase.epochs for phase in phases_of(settings)) * len(train) / images_per_step(settings)
    choice, seconds = None, None
    if is_unfinished(run_dir):
        if settings.budget is not None:
            there = read_run_config(run_dir).train
            choice = Choice({f"train.{name}": getattr(there, name) for name in names}, "kept when training resumes")
    elif not settings.smoke_test and (steps >= _SHORT or settings.budget is not None):
        try:
            limit = _cache_limit(config.data.cache, Path())
            seconds = estimate_seconds(
                model, settings, train, precision, workers=config.data.workers, cache_limit=limit
            )
        except NonFiniteLossError:
            return config, plan, None  # training will say so
        if settings.budget is not None:
            choice = within_budget(settings, seconds, time.monotonic() - start)
            choice = distributed.broadcast_object(choice)
            seconds *= sum(choice.settings.values()) / sum(getattr(settings, name) for name in names)
    if choice is not None:
        config = with_settings(config, {**choice.settings, "train.budget": None})
        plan = None if plan is None else plan.within_budget(choice)
    return config, plan, seconds


def _check(config: Config) -> tuple[torch.device, torch.dtype]:
    """Check that this machine can do what the settings ask for. Returns device and precision."""
    device = choose_device(config.train.device)
    if config.train.deterministic and device.type != "cpu":
        raise ValueError("train.deterministic works on the CPU only; use device 'cpu' (--device cpu)")
    check_logger(config.train.logger)
    if config.train.draw_graph:
        check_graphs()
    if config.train.export_native:
        from frcnn.export.export import require_packages

        require_packages("onnx")
    return device, choose_precision(config.train.precision, device)


def _open_dataset(config: Config) -> Dataset:
    """The data, if it has what the settings need.

    Raises:
        ValueError: see `frcnn.data.dataset.open_dataset`; or validation has no images, or they would not be used.
    """
    dataset = open_dataset(Path(str(config.data.path)), config.data)
    if config.train.validate_every is not None and not any(record.class_names for record in dataset.val):
        raise ValueError(
            "train.validate_every: there are no validation images with objects; set data.val_fraction, e.g. 0.2, "
            "or data.val_split"
        )
    if config.train.validate_every is None and config.data.val_fraction > 0:
        raise ValueError(
            "data.val_fraction: the validation images would not be used; set train.validate_every too, e.g. 1"
        )
    return dataset


def _few_images(dataset: Dataset) -> Dataset:
    """A few images of each split, for a smoke test."""
    with_objects = [index for index, record in enumerate(dataset.train) if record.class_names]
    without = [index for index, record in enumerate(dataset.train) if not record.class_names][: SMOKE_TEST_IMAGES // 4]
    chosen = with_objects[: SMOKE_TEST_IMAGES - len(without)] + without
    val = sorted(range(len(dataset.val)), key=lambda index: not dataset.val[index].class_names)[:SMOKE_TEST_IMAGES]
    return dataset.replace(train=dataset.train.take(chosen), val=dataset.val.take(sorted(val)))


@contextmanager
def _deterministic(on: bool) -> Iterator[None]:
    """Use deterministic algorithms only, if `on`."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(on or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _store(state: TrainingState, run_dir: Path, data: str) -> FasterRCNN:
    """Store the model, that of the best validation if there was one. Remove the files that only serve to resume.

    Args:
        data: fingerprint of the data.
    """
    model, settings = state.outcome.eval(), state.settings
    if distributed.is_main_process():
        mark_trained(run_dir, data)
        if state.best is None:
            save_model(model, run_dir / MODEL_FILE)
        else:
            save_model(model, run_dir / LAST_FILE)
            os.replace(run_dir / BEST_FILE, run_dir / MODEL_FILE)
        remove_leftovers(run_dir)
    distributed.barrier()  # the model is stored
    if state.best is not None:
        model = load_model(run_dir, device=settings.device)
    return model


def _choose_run_dir(
    config: Config, out: str | Path | None, dataset: Dataset | None, *, resume: bool
) -> tuple[Path, bool]:
    """`choose_run_dir`. A run that was interrupted after its last step is not completed if the data has changed since:
    its model stays, and a new run starts."""
    run_dir, has_model = choose_run_dir(config, out, resume=resume)
    if has_model and is_unfinished(run_dir):
        dataset = dataset or _open_dataset(config)
        if trained_on(run_dir) != (_few_images(dataset) if config.train.smoke_test else dataset).fingerprint():
            mark_finished(run_dir)
            return choose_run_dir(config, out, resume=resume)
    return run_dir, has_model


def _draw_and_export(
    config: Config, model: FasterRCNN, dataset: Dataset, run_dir: Path, callbacks: Sequence[Callback]
) -> None:
    """The curves, and the exported file if the settings ask for one."""
    if not distributed.is_main_process():
        return
    if (run_dir / METRICS_FILE).is_file():
        draw_curves(run_dir)
    if config.train.export_native:
        from frcnn.export.export import export

        def log(message: str) -> None:
            for callback in callbacks:
                callback.on_export(message)

        export(model, "onnx", run_dir / "model.onnx", data=dataset, log=log)


def _evaluate(
    model: FasterRCNN, dataset: Dataset, run_dir: Path, callbacks: Sequence[Callback], workers: int
) -> Metrics | None:
    """Metrics on the test images, which metrics.json stores; None if there are no test images."""

    def on_image(images: int, total: int) -> None:
        for callback in callbacks:
            callback.on_test(images, total)

    if not dataset.test:
        return None
    test = dataset.test.of_classes(model.classes)  # the report of the data warns of the others
    metrics = evaluate(TorchRuntime(model), test, split="test", workers=workers, on_image=on_image)
    metrics = replace(metrics, left_out=unknown_counts(dataset.test, model.classes))
    if distributed.is_main_process():
        write_text(run_dir / EVALUATION_FILE, metrics.to_json())
    return metrics
