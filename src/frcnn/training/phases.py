"""Training schemes as data: a scheme is a tuple of phases, run one after the other by one loop."""

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
    """A stretch of training in which the same parts learn from the same losses.

    A head that is trained has its two losses; one that is not has none. If the RPN is not trained, its proposals do
    not change: they are made once, when the phase begins, and kept.
    """

    name: str
    train: frozenset[Part]
    """What is trained; all else stays as it is."""
    restart: frozenset[Part]
    """What begins again from the weights that training began with."""
    epochs: int
    lr: Sequence[float]
    """Learning rate of each epoch, for one image a step; the last one goes on."""

    @property
    def keeps_proposals(self) -> bool:
        return Part.RPN not in self.train


def end_to_end(settings: TrainSettings) -> tuple[Phase, ...]:
    """ "Approximate joint training", Ren et al. 2015, section 3.2: all parts and losses at once; proposals are
    treated as given, so no gradient flows through their coordinates."""
    return (
        Phase(
            "end to end", _conv_layers(settings) | {Part.RPN, Part.ROI_HEAD}, frozenset(), settings.epochs, settings.lr
        ),
    )


def alternating(settings: TrainSettings) -> tuple[Phase, ...]:
    """ "4-step alternating training", Ren et al. 2015, section 3.2.

    ====== ================== ==================== ==================== ===============
    step   trained            begins again         stays                proposals
    ====== ================== ==================== ==================== ===============
    1 rpn  conv layers, RPN                        RoI head
    2 roi  conv layers, head  conv layers          RPN                  kept, of step 1
    3 rpn  RPN                (RPN: a setting)     conv layers, head
    4 roi  RoI head                                conv layers, RPN     kept, of step 3
    ====== ================== ==================== ==================== ===============

    In step 3 the RPN goes on from step 1, as in CNTK's tutorial; with `train.restart_rpn` it begins again, as in
    the authors' code (py-faster-rcnn's step 2 hands on an untrained RPN). The paper does not say.
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
    """The phases that the settings ask for; with `train.fast`, one epoch each."""
    phases = SCHEMES[settings.scheme](settings)
    return tuple(phase._replace(epochs=1) for phase in phases) if settings.fast else phases


def _conv_layers(settings: TrainSettings) -> frozenset[Part]:
    return frozenset({Part.BACKBONE} if settings.conv_layers else ())
