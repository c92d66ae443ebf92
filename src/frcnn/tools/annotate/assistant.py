"""What a detector does for the person who labels: it proposes boxes, says which images to label next, and is trained
again on the labels so far."""

import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from frcnn.detector import Detector, load
from frcnn.http import training_process
from frcnn.inference.results import Detections
from frcnn.messages import plural
from frcnn.tools.annotate.editing import Editor

TrainCommand = Callable[[], tuple[list[str], Path]]
"""Gives the command line of a new training, and its run directory."""
State = Literal["idle", "running", "done", "failed"]


class TrainingStatus(NamedTuple):
    """How the training is going."""

    state: State
    message: str
    """For people."""
    finished: int
    """Number of finished trainings. When it grows, there is a new detector."""


class Assistant:
    """Proposes boxes, chooses images to label next, and trains a detector when asked.

    Args:
        editor: of the folder that is labeled.
        detector: proposes boxes; None: there is none until a training ends.
        threshold: confidence from which detections are proposed; None: the detector's own.
        count: number of images to label next; 0: none are chosen.
        train: gives the command of a training on the folder; None: the page offers none.

    Attributes:
        detector: the newest one.
        next_images: indices of the images to label next, the one that differs most from the labeled ones first.
    """

    def __init__(
        self,
        editor: Editor,
        detector: Detector | None = None,
        *,
        threshold: float | None = None,
        count: int = 0,
        train: TrainCommand | None = None,
    ) -> None:
        self._editor, self._threshold, self._count, self._train = editor, threshold, count, train
        self.detector = detector
        self.next_images: Sequence[int] = ()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._training = TrainingStatus("idle", "", 0)

    @property
    def can_train(self) -> bool:
        """Whether the page offers a training."""
        return self._train is not None

    def propose(self, image: Path) -> Detections:
        """Detect objects in an image."""
        assert self.detector is not None
        return self.detector.predict(image, threshold=self._threshold)

    def choose_next(self, on_image: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Choose the images to label next, anew.

        Args:
            on_image: called with the number of images that the detector has looked at, and with their total.

        Raises:
            ValueError: the detector is an exported file.
        """
        if self.detector is None or not self._count:
            return
        from frcnn.tools.annotate.next_images import choose_next, image_features  # takes seconds: PyTorch

        editor, model = self._editor, self.detector.model
        features: dict[int, np.ndarray] = {}
        for index, (_, image) in enumerate(editor.images):
            if index in editor.broken:
                continue
            with suppress(OSError, ValueError):  # it cannot be read, or is too small for the layers
                features[index] = image_features(model, image)
            on_image(index + 1, len(editor.images))
        new = [index for index in features if editor.counts[index] is None]
        labeled = [own for index, own in features.items() if editor.counts[index] is not None]
        chosen = choose_next([features[index] for index in new], labeled, self._count)
        self.next_images = [new[each] for each in chosen]

    def training(self) -> TrainingStatus:
        """How the training is going."""
        return self._training

    def start_training(self) -> TrainingStatus:
        """Train on the folder, in a process of its own, unless a training is running. Proposals come from the new
        detector when it ends."""
        assert self._train is not None
        with self._lock:
            if self._training.state != "running":
                command, run_dir = self._train()
                self._process = training_process.start(command)
                self._say("running", "starting the training")
                threading.Thread(target=self._follow, args=(self._process, run_dir), daemon=True).start()
        return self._training

    def stop(self) -> None:
        """End a training that is running."""
        training_process.end(self._process)

    def _follow(self, process: "subprocess.Popen[str]", run_dir: Path) -> None:
        try:
            training_process.follow(process, partial(self._say, "running"))
            self.detector = load(run_dir)
        except Exception as error:  # in a thread of its own, nobody else would see it
            self._say("failed", f"The training failed: {error}")
            return
        message = f"The training has finished. Proposals now come from {run_dir}."
        try:
            self.choose_next(self._say_choosing)
        except Exception as error:
            message += f" The images to label next were not chosen again: {error}"
        self._training = TrainingStatus("done", message, self._training.finished + 1)

    def _say_choosing(self, done: int, total: int) -> None:
        self._say("running", f"choosing the images to label next: looked at {done} of {plural(total, 'image')}")

    def _say(self, state: State, message: str) -> None:
        self._training = self._training._replace(state=state, message=message)
