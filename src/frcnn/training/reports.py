"""Reports: what training tells its callbacks."""

from pathlib import Path
from typing import NamedTuple

import torch

from frcnn.config import Config
from frcnn.data.dataset import Dataset
from frcnn.planning.plan import Plan


class InitialWeights(NamedTuple):
    """The weights that training starts from."""

    source: str | None
    """A file or a package; None: random weights."""
    known_classes: tuple[str, ...] | None
    """Classes whose weights come from a trained detector; the others are newly initialized. None: the weights are those
    of a base model."""
    new_layers: tuple[str, ...]
    """Layers of the base model's head that the weights lack. They are newly initialized."""


class StartReport(NamedTuple):
    """All settings and data are checked, and the first step comes next."""

    run_dir: Path
    config: Config
    plan: Plan | None
    """The choices and the reason of each; None without a plan."""
    dataset: Dataset
    device: torch.device
    precision: torch.dtype
    """Of the layers; losses and box arithmetic are float32."""
    images_per_step: int
    """All processes together."""
    weights: InitialWeights
    graphs: list[Path]
    """Drawings of the model's graph, if `train.draw_graph` is set."""
    step: int
    """Steps that an interrupted run has already done; 0 in a new run."""
    steps: int
    """Steps of all phases."""
    estimated_seconds: float | None
    """How long training will take, without the evaluation; None for a short training and for one that resumes."""


class StepReport(NamedTuple):
    """One step of the optimizer."""

    phase: str
    epoch: int
    """Within the phase, from 1."""
    step: int
    """Over all phases, from 1."""
    steps: int
    """Steps of all phases."""
    lr: float
    loss: float
    """The sum of `losses`."""
    losses: dict[str, float]
    """Loss name -> mean over the step's images."""
    seconds: float
    images: int
    """Images in this step, all processes together."""
    memory: int
    """Bytes: peak memory of the GPU so far, or current memory of this process."""


class ProposalReport(NamedTuple):
    """How good the RPN's proposals are that the next phase trains on."""

    phase: str
    """The phase that trains on them."""
    step: int
    """Steps done before they were computed."""
    recall: dict[int, float]
    """n -> fraction of the objects that the best n proposals overlap with an IoU of at least 0.5."""


class ValidationReport(NamedTuple):
    """How good the detector is on the validation images."""

    epoch: int
    """Over all phases, from 1."""
    step: int
    """Over all phases, from 1."""
    map50: float
    """Mean AP at IoU 0.5; see `Metrics`."""
    map: float
    """COCO's AP: mean over IoU 0.50:0.95."""
    loss: float
    """The sum of `losses`."""
    losses: dict[str, float]
    """Loss name -> mean over the images. Each validation draws the same samples, so that losses are comparable."""
    recall: dict[int, float]
    """n -> fraction of the objects that the best n proposals overlap with an IoU of at least 0.5."""
