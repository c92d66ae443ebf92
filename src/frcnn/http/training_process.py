"""A training in a process of its own, of `frcnn annotate` and `frcnn serve`."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence

from frcnn.messages import duration

_STEP = re.compile(r"step (\d+)/(\d+): .* (\d+) s left$")
_LOG_LINES = 20
_SECRETS = ("FRCNN_TOKEN", "LABEL_STUDIO_API_KEY")
"""Environment variables that a training does not need."""
_END_SECONDS = 10


def start(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a command whose output `follow` reads."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={name: value for name, value in os.environ.items() if name not in _SECRETS} | {"PYTHONIOENCODING": "utf-8"},
    )


def follow(process: "subprocess.Popen[str]", on_message: Callable[[str], None]) -> None:
    """Follow a training to its end.

    Args:
        on_message: called with how far it is, for people.

    Raises:
        ValueError: it failed.
    """
    assert process.stdout is not None
    lines: list[str] = []
    with process:
        for line in process.stdout:
            lines = [*lines, line.rstrip()][-_LOG_LINES:]
            step = _STEP.search(lines[-1])
            if step is not None:
                done, total, left = map(int, step.groups())
                on_message(f"training: step {done} of {total}, {duration(left)} left")
    if process.returncode:
        raise ValueError("\n".join(lines) or f"it ended with status {process.returncode}")


def end(process: "subprocess.Popen[str] | None") -> None:
    """End a training that is running."""
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
