"""Training schemes as data: a scheme is a tuple of phases, run one after the other by one loop."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from frcnn.config import TrainSettings


class Part(Enum):
    """The parts of the detector that a phase may train; the value is the module's name."""

    BACKBONE = "backbone"
    RPN = "rpn"
    ROI_HEAD = "roi_head"


class Phase(NamedTuple):
    """A stretch of training in which the same parts learn from the same losses."""

    name: str
    train: frozenset[Part]
    """What is trained; all else stays as it is."""
    epochs: int
    lr: Sequence[float]
    """Learning rate of each epoch; the last one goes on."""


def end_to_end(settings: TrainSettings) -> tuple[Phase, ...]:
    """ "Approximate joint training", Ren et al. 2015, section 3.2: all parts and losses at once; proposals are
    treated as given, so no gradient flows through their coordinates."""
    parts = {Part.RPN, Part.ROI_HEAD} | ({Part.BACKBONE} if settings.conv_layers else set())
    epochs = 1 if settings.fast else settings.epochs
    return (Phase("end to end", frozenset(parts), epochs, settings.lr),)
