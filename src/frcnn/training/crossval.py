"""Cross-validation: train and evaluate once per fold and seed, average, and compare with an earlier result."""

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from frcnn import distributed
from frcnn.config import Config, dump, local_settings, make_config
from frcnn.data.dataset import Dataset
from frcnn.files import as_path, write_text
from frcnn.json_text import load_json, to_json
from frcnn.messages import clipped, plural
from frcnn.training.callbacks import Callback
from frcnn.training.run_dir import new_run_dir, numbered
from frcnn.training.train import train

RESULT_FILE = "crossval.json"
Metric = Literal["map50", "map"]
METRICS: dict[Metric, str] = {"map50": "Mean AP", "map": "COCO AP"}
"""The metrics that are estimated, and what tables call them."""

_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5% quantiles of Student's t distribution with 1, 2, ... degrees of freedom."""


class FoldResult(NamedTuple):
    """One training of a cross-validation, evaluated on the images of its fold."""

    fold: int
    """From 1."""
    seed: int
    run_dir: Path
    images: int
    """Test images."""
    map50: float
    """See `Metrics.map50`."""
    map: float
    """See `Metrics.map`."""


class Estimate(NamedTuple):
    """A mean over the folds, with its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class CrossvalResult:
    """The result of `crossval`. `print(result)` shows a table."""

    folder: Path
    """Has a run directory for each fold and seed, and crossval.json."""
    folds: int
    seeds: tuple[int, ...]
    settings: dict[str, Any] = field(repr=False)
    """All that was asked for, by name."""
    results: tuple[FoldResult, ...] = field(repr=False)
    digest: str = field(default="", repr=False)
    """Of the data and of all settings. Only a cross-validation with the same digest is resumed."""

    def estimate(self, metric: Metric = "map50") -> Estimate:
        """The mean of a metric over the folds; of each fold, the mean over its seeds."""
        return estimate(list(self._of_folds(metric).values()))

    def minus(self, other: "CrossvalResult", metric: Metric = "map50") -> Estimate:
        """The mean difference to another cross-validation, fold by fold.

        Differences within a fold vary less than the metrics themselves, because some folds are harder than others.

        Raises:
            ValueError: the other one has other folds or other data.
        """
        self.require_same_folds(other)
        ours, theirs = self._of_folds(metric), other._of_folds(metric)
        if ours.keys() != theirs.keys():
            raise ValueError(f"{other.folder}: has results of the folds {sorted(theirs)} only; finish it first")
        images = [{each.fold: each.images for each in result.results} for result in (self, other)]
        if images[0] != images[1]:
            raise ValueError(f"{other.folder}: is of other data, with other numbers of images in the folds")
        return estimate([value - theirs[fold] for fold, value in ours.items()])

    def require_same_folds(self, other: "CrossvalResult") -> None:
        """Check that both have the same folds of the same data.

        Raises:
            ValueError: they do not.
        """
        for name in ("data", "folds", "data.split_seed"):
            here, there = self.settings.get(name), other.settings.get(name)
            if here != there:
                raise ValueError(
                    f"{other.folder}: cannot be compared fold by fold, because it has {name} {there}, not {here}"
                )

    def _of_folds(self, metric: Metric) -> dict[int, float]:
        values: dict[int, list[float]] = {}
        for result in self.results:
            values.setdefault(result.fold, []).append(getattr(result, metric))
        return {fold: statistics.fmean(each) for fold, each in values.items()}

    def __str__(self) -> str:
        lines = ["fold  seed  images  Mean AP  COCO AP"]
        lines += [
            f"{each.fold:>4}  {each.seed:>4}  {each.images:>6}  {each.map50:>7.4f}  {each.map:>7.4f}"
            for each in self.results
        ]
        lines.append(f"Mean AP = {self.estimate('map50')}, COCO AP = {self.estimate('map')}: mean and 95% interval")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Everything as JSON text, as in crossval.json."""
        content = {
            "folds": self.folds,
            "seeds": self.seeds,
            "settings": self.settings,
            "digest": self.digest,
            "results": [{**each._asdict(), "run_dir": each.run_dir.name} for each in self.results],
        }
        return to_json(content)


def crossval(
    data: str | Path,
    *,
    folds: int = 4,
    seeds: Sequence[int] | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    baseline: CrossvalResult | None = None,
    base_model: str | None = None,
    recipe: str | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    plan: bool = True,
    offline: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    on_fold: Callable[[FoldResult], None] = lambda result: None,
) -> CrossvalResult:
    """Train and evaluate once for each fold: on all images but those of the fold, and on those of the fold.

    The training images are split into folds as `data.split` is drawn: stratified by class, near-duplicates together.
    Test images that the data set has are left alone, so that they can judge the settings that you choose.

    The interval is Student's over the folds. Folds share most of their training images, so it is somewhat too narrow
    (Bengio & Grandvalet 2004).

    Called again with the same arguments, settings and data, an interrupted cross-validation resumes, and a finished one
    is returned.

    Args:
        data: the folder, in any supported format.
        folds: how many; 2 or more, at most as many as there are images.
        seeds: one training per fold and seed; None: the seed of the settings.
        out: the folder of the run directories; None: runs/NAME, or the next free one of runs/NAME-2, ...
        name: see `out`; None: DATA-crossval.
        baseline: an earlier result that this one will be compared with. If that is impossible, nothing is trained.
        base_model, recipe, weights, settings, config, plan, offline, callbacks, progress: see `train`. Each fold has a
            plan of its own.
        on_fold: called with each result.

    Returns:
        The metrics of each fold, their means and intervals.

    Raises:
        FileExistsError: `out` holds another cross-validation, or one of other data or settings.
        ValueError: fewer images with objects than folds, or a baseline with other folds.
        ValueError, FileNotFoundError, FloatingPointError, OSError: see `train`.
    """
    if folds < 2:
        raise ValueError(f"folds {folds}: cross-validation needs at least 2")
    overrides = dict(settings or {})
    file = None if config is None else Path(config)
    local = {} if file is None else local_settings(file)
    merged = make_config(base_model=base_model, recipe=recipe, file=file, overrides=local | overrides)
    seeds = tuple(seeds) if seeds is not None else (merged.train.seed,)
    data = as_path(data, "data")
    data_name = merged.data.name or data.resolve().name
    asked = {"data": data_name, "folds": folds, "data.split_seed": merged.data.split_seed}
    given = {"base_model": base_model, "recipe": recipe, "weights": weights, "config": config}
    asked |= {name: str(value) for name, value in given.items() if value is not None} | overrides
    asked |= {} if plan else {"plan": False}
    with distributed.process_group():
        chosen = None
        if distributed.is_main_process():
            new = CrossvalResult(Path(out or ""), folds, seeds, json.loads(json.dumps(asked, default=str)), ())
            if baseline is not None:
                new.require_same_folds(baseline)
            dataset = Dataset(Path(data), merged.data.model_copy(update={"val_fraction": 0.0}))
            _require_objects(dataset, folds)
            new = replace(new, digest=_digest(dataset, merged))
            chosen = _choose(out, name or f"{data_name}-crossval", new)
        result: CrossvalResult = distributed.broadcast_object(chosen)  # type: ignore[assignment]
        for fold in range(1, folds + 1):
            for seed in seeds:
                if any((done.fold, done.seed) == (fold, seed) for done in result.results):
                    continue
                run_dir = result.folder / f"fold-{fold}-seed-{seed}"
                trained = train(
                    data,
                    out=run_dir,
                    base_model=base_model,
                    recipe=recipe,
                    weights=weights,
                    settings=overrides | {"data.fold": [fold, folds], "train.seed": seed, "train.skip_existing": True},
                    config=config,
                    plan=plan,
                    offline=offline,
                    callbacks=callbacks,
                    progress=progress,
                )
                metrics = trained.metrics
                if metrics is None or math.isnan(metrics.map50):
                    raise ValueError(f"{data}: fold {fold} of {folds} has no objects to evaluate on; use fewer folds")
                one = FoldResult(fold, seed, run_dir, metrics.images, metrics.map50, metrics.map)
                result = replace(result, results=(*result.results, one))
                if distributed.is_main_process():
                    write_text(result.folder / RESULT_FILE, result.to_json())
                    on_fold(one)
        return result


def load_crossval(folder: str | Path) -> CrossvalResult:
    """Read the result of an earlier cross-validation.

    Args:
        folder: see `CrossvalResult.folder`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its crossval.json is damaged.
    """
    result = _read(Path(folder))
    if result is None:
        raise FileNotFoundError(f"{folder}: has no {RESULT_FILE}; name the folder that `frcnn crossval` wrote")
    return result


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values, with Student's 95% confidence interval; a single value has no interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf)
    quantile = _T_975[len(values) - 2] if len(values) - 2 < len(_T_975) else 1.96
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def _read(folder: Path) -> CrossvalResult | None:
    if not (folder / RESULT_FILE).is_file():
        return None
    try:
        content = load_json((folder / RESULT_FILE).read_text(encoding="utf-8"))
        results = [
            FoldResult(
                *(int(each["fold"]), int(each["seed"]), folder / each["run_dir"], int(each["images"])),
                *(float(each["map50"]), float(each["map"])),
            )
            for each in content["results"]
        ]
        settings = dict(content["settings"])
        return CrossvalResult(
            folder,
            int(content["folds"]),
            tuple(map(int, content["seeds"])),
            settings,
            tuple(results),
            str(content.get("digest", "")),
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(
            f"{folder / RESULT_FILE}: damaged ({clipped(str(error))}); delete the folder and start again"
        ) from None


def _require_objects(dataset: Dataset, folds: int) -> None:
    """Check that each fold can have an image with objects.

    Raises:
        ValueError: fewer images with objects than folds.
    """
    labeled = sum(len(record.boxes) > 0 for record in dataset.train)
    if labeled < folds:
        raise ValueError(
            f"{dataset.folder}: {plural(labeled, 'training image has', 'training images have')} objects, too few for "
            f"{folds} folds; label more images, or use fewer folds (folds=, --folds)"
        )


def _digest(dataset: Dataset, config: Config) -> str:
    """See `CrossvalResult.digest`. It changes if the folder of the data moves."""
    settings = json.dumps(dump(config), sort_keys=True, default=str)
    return hashlib.sha256(f"{dataset.fingerprint()}\0{settings}".encode()).hexdigest()


def _choose(out: str | Path | None, name: str, new: CrossvalResult) -> CrossvalResult:
    """The earlier cross-validation with the arguments, settings and data of the new one; else the new one, in a new
    folder.

    Raises:
        FileExistsError: `out` holds something else.
    """
    for folder in reversed(numbered(name)) if out is None else [Path(out)]:
        there = _read(folder)
        if there is not None and (there.settings, there.seeds, there.digest) == (new.settings, new.seeds, new.digest):
            return there
    if out is not None and Path(out).exists() and any(Path(out).iterdir()):
        raise FileExistsError(
            f"{out}: exists, with other data or settings, and is not overwritten; choose another folder (out=, --out)"
        )
    new = replace(new, folder=new_run_dir(out, name))
    write_text(new.folder / RESULT_FILE, new.to_json())
    return new
