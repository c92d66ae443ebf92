"""Suspects (labels that are probably wrong) that a person goes through one by one, and the decisions."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from frcnn.evaluation.suspects import SuspectKind
from frcnn.files import write_text
from frcnn.json_text import load_json
from frcnn.messages import clipped, plural
from frcnn.tools.annotate.editing import Editor

Box = tuple[float, float, float, float]
Decision = Literal["accepted", "kept"]
"""accepted: the label was changed as proposed. kept: it was not."""
_DECISIONS_SUFFIX = ".decisions.json"
_OF_CHECK = "the list of suspects that `frcnn check DATA --model RUN_DIR --json FILE` writes"
_OF_DECISIONS = "the decisions of an earlier review; rename or delete it to start the review again"
_T = TypeVar("_T")


class ListedSuspect(msgspec.Struct, frozen=True, rename={"class_name": "class"}):
    """A suspect as `frcnn check --json` writes it."""

    image: str
    """Path, relative to the folder of the data."""
    kind: SuspectKind
    box: Box
    """What the detector proposes, pixels; of a label to be removed, its own box."""
    class_name: str
    label: Box | None = None
    """The box of the label; None: there is none."""
    label_class: str | None = None
    """The class of the label, where it differs from the proposed one."""
    score: float = 0
    reason: str = ""

    @property
    def key(self) -> str:
        """The same for the same suspect of another `frcnn check`, though its score may differ."""
        return json.dumps([self.image, self.kind, self.box, self.class_name, self.label, self.label_class])


class _Report(msgspec.Struct):
    """The part of `frcnn check --json` that a review reads."""

    suspects: list[ListedSuspect]


class _StoredDecision(msgspec.Struct):
    suspect: ListedSuspect
    decision: Decision


class Review:
    """The suspects of a file, in its order, and the decisions so far.

    Decisions are stored at once, in a file beside it: suspects.decisions.json. Several reviews may go through the same
    suspects: each adds its decisions to those in the file. Of two decisions about one suspect, the later one stays.

    Args:
        file: of `frcnn check DATA --model RUN_DIR --json FILE`.
        editor: of DATA.

    Attributes:
        suspects: (index of the image in the editor, suspect) of each.
        not_shown: a sentence about suspects whose image is not in the folder; "" if there are none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no list of suspects, or none of their images is in the folder.
    """

    def __init__(self, file: Path, editor: Editor) -> None:
        self._file = file.with_name(file.stem + _DECISIONS_SUFFIX)
        self._editor, self._saving = editor, threading.Lock()
        listed = _read(file, _Report, _OF_CHECK)
        numbers: dict[Path | None, int] = {image.resolve(): index for index, (_, image) in enumerate(editor.images)}
        found = [(numbers.get(_real(editor.root / each.image)), each) for each in listed.suspects]
        self.suspects = [(index, each) for index, each in found if index is not None]
        missing = [each.image for index, each in found if index is None]
        example = clipped(missing[0]) if missing else ""
        if missing and not self.suspects:
            raise ValueError(
                f"{file}: none of its images is in {editor.folder}, e.g. {example}; run `frcnn annotate` on the folder "
                f"that was checked"
            )
        self.not_shown = ""
        if missing:
            self.not_shown = f"{plural(len(missing), 'suspect')} not shown: the image is not there, e.g. {example}"
        self._decisions = self._stored()

    def _stored(self) -> dict[str, _StoredDecision]:
        """The decisions in the file, by the key of their suspect."""
        if not self._file.is_file():
            return {}
        return {each.suspect.key: each for each in _read(self._file, list[_StoredDecision], _OF_DECISIONS)}

    def decision(self, number: int) -> Decision | None:
        """What was decided about a suspect; None: nothing yet. Decisions of other reviews are known when a page is
        loaded, and after each decision."""
        decided = self._decisions.get(self.suspects[number][1].key)
        return None if decided is None else decided.decision

    def decide(self, number: int, decision: Decision | None) -> None:
        """Store a decision; None deletes it.

        Raises:
            OSError: it cannot be written, or another program has held the lock of the folder for too long.
            ValueError: the file with the decisions so far is damaged.
        """
        suspect = self.suspects[number][1]
        with self._saving, self._editor.locked():
            decisions = {key: each for key, each in self._stored().items() if key != suspect.key}
            if decision is not None:
                decisions[suspect.key] = _StoredDecision(suspect, decision)
            write_text(self._file, json.dumps(msgspec.to_builtins(list(decisions.values())), indent=1) + "\n")
            self._decisions = decisions

    def counts(self) -> str:
        """How far the review has come, in words."""
        decisions = [self.decision(number) for number in range(len(self.suspects))]
        accepted, kept = decisions.count("accepted"), decisions.count("kept")
        return f"{accepted + kept} of {plural(len(decisions), 'suspect')} reviewed: {accepted} accepted, {kept} kept"

    def for_page(self) -> Iterator[dict[str, object]]:
        """The suspects for the page.

        Raises:
            ValueError: the file with the decisions is damaged.
        """
        with self._saving:
            self._decisions = self._stored()
        for number, (index, suspect) in enumerate(self.suspects):
            yield msgspec.to_builtins(suspect) | {"index": index, "decision": self.decision(number)}


def _read(file: Path, kind: type[_T], what: str) -> _T:
    """
    Args:
        what: the file should be, in words.
    """
    try:
        # Not msgspec's own parser: it refuses names of files that are not UTF-8.
        return msgspec.convert(load_json(file.read_bytes()), kind)
    except ValueError as error:
        raise ValueError(f"{file}: {clipped(str(error))}; it must hold {what}") from None


def _real(path: Path) -> Path | None:
    """The path with all links resolved; None: no file can have this name."""
    try:
        return path.resolve()
    except ValueError:  # e.g. a NUL character
        return None
