"""Callbacks: hooks that log training, or stop it."""

from frcnn.training.reports import ProposalReport, StartReport, StepReport, ValidationReport
from frcnn.training.state import TrainingState


class Callback:
    """Base class of callbacks. Override the hooks you need; by default they do nothing.

    Hooks run in the main process. They may read the state, e.g. `state.model`. A hook that sets
    `state.should_stop = True` ends training after the current step, in all processes; the model is stored as usual.

    Example:
        >>> class StopAtLoss(Callback):
        ...     def on_step(self, report, state):
        ...         if report.loss < 0.1:
        ...             state.should_stop = True
        >>> frcnn.train("photos", callbacks=[StopAtLoss()])
    """

    def on_start(self, report: StartReport, state: TrainingState) -> None:
        """Called once, before the first step."""

    def on_proposals(self, report: ProposalReport, state: TrainingState) -> None:
        """Called when a phase begins that trains on stored proposals (alternating training)."""

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        """Called after every step."""

    def on_validation(self, report: ValidationReport, state: TrainingState) -> None:
        """Called after every validation; `state.best` is up to date."""

    def on_end(self, state: TrainingState) -> None:
        """Called once, when training ends, also by an error or an interrupt."""

    def on_export(self, message: str) -> None:
        """Called with a line on each step of exporting the trained detector (`train.export_native`)."""

    def on_test(self, images: int, total: int) -> None:
        """Called while the trained detector is evaluated on the test images.

        Args:
            images: evaluated so far.
            total: test images.
        """
