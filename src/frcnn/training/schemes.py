"""Training schemes as data: a scheme is a tuple of phases, which one loop runs in order."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from frcnn.config import TrainSettings


class Part(Enum):
    """The parts of the detector that a phase may train; the value is the module's name."""

    BACKBONE = "backbone"
    RPN = "rpn"
    ROI_HEAD = "roi_head"


class Phase(NamedTuple):
    """A part of training in which the trained parts and the losses stay the same.

    Each trained head contributes its two losses. If the RPN is not trained, its proposals do not change, so they are
    computed once, when the phase begins, and stored.
    """

    name: str
    train: frozenset[Part]
    """The trained parts; the others are frozen."""
    restart: frozenset[Part]
    """The parts that are reset to their initial weights when the phase begins."""
    epochs: int
    lr: Sequence[float]
    """Learning rate of each epoch, for one image per step; the last one also holds for later epochs."""

    @property
    def uses_stored_proposals(self) -> bool:
        """Whether it trains on the proposals of an earlier phase; else on those of its own RPN."""
        return Part.RPN not in self.train


def end_to_end(settings: TrainSettings) -> tuple[Phase, ...]:
    """One phase that trains all parts with all losses. No gradient flows through the coordinates of proposals.

    Source:
        Ren et al. 2015, section 3.2, "approximate joint training".
    """
    return (
        Phase(
            "end to end", _conv_layers(settings) | {Part.RPN, Part.ROI_HEAD}, frozenset(), settings.epochs, settings.lr
        ),
    )


def alternating(settings: TrainSettings) -> tuple[Phase, ...]:
    """Four phases that train the RPN and the RoI head in turn.

    ====== ================== ==================== ==================== ===============
    phase  trained            restarted            frozen               proposals
    ====== ================== ==================== ==================== ===============
    1 rpn  backbone, RPN                           RoI head
    2 roi  backbone, RoI head backbone             RPN                  stored, of RPN 1
    3 rpn  RPN                (RPN: a setting)     backbone, RoI head
    4 roi  RoI head                                backbone, RPN        stored, of RPN 3
    ====== ================== ==================== ==================== ===============

    Source:
        Ren et al. 2015, section 3.2, "4-step alternating training". The paper does not say how the RPN of step 3
        starts. Here it continues from step 1, as in CNTK's tutorial. With `train.restart_rpn` it restarts, as in the
        authors' code (step 2 of py-faster-rcnn hands on an untrained RPN).
    """
    conv_layers, rpn, head = _conv_layers(settings), frozenset({Part.RPN}), frozenset({Part.ROI_HEAD})
    rpn_schedule, roi_schedule = (settings.rpn_epochs, settings.rpn_lr), (settings.roi_epochs, settings.roi_lr)
    return (
        Phase("1 rpn", conv_layers | rpn, frozenset(), *rpn_schedule),
        Phase("2 roi", conv_layers | head, conv_layers, *roi_schedule),
        Phase("3 rpn", rpn, rpn if settings.restart_rpn else frozenset(), *rpn_schedule),
        Phase("4 roi", head, frozenset(), *roi_schedule),
    )


SCHEMES: dict[str, Callable[[TrainSettings], tuple[Phase, ...]]] = {
    "end_to_end": end_to_end,
    "alternating": alternating,
}


def phases_of(settings: TrainSettings) -> tuple[Phase, ...]:
    """The phases of `train.scheme`; with `train.smoke_test`, one epoch each."""
    phases = SCHEMES[settings.scheme](settings)
    return tuple(phase._replace(epochs=1) for phase in phases) if settings.smoke_test else phases


def _conv_layers(settings: TrainSettings) -> frozenset[Part]:
    return frozenset({Part.BACKBONE} if settings.train_backbone else ())
