"""The command line: the only place that prints and exits."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

from frcnn import processes
from frcnn.cli.parser import make_parser
from frcnn.memory import keep_memory

_EXTRAS = {
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "starlette": "annotate",
    "uvicorn": "annotate",
}
"""Packages that are not always installed, and the extra of frcnn that brings them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 warnings (check --strict), 2 bad input, 130 interrupted, 141
    nobody read on."""
    options = make_parser().parse_args(arguments)
    keep_memory()
    try:
        with processes.joined(), nullcontext() if processes.is_first() else _silence():
            status: int | None = options.run(options)
            sys.stdout.flush()
    except BrokenPipeError:  # `frcnn nodes NAME | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at the end
        return 141
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        extra = f"[{_EXTRAS[name]}]" if name in _EXTRAS else ""
        print(
            f"frcnn: error: frcnn {options.command} needs {name}, which is missing: pip install 'frcnn{extra}', or in "
            f"a clone: pip install '.{extra}'",
            file=sys.stderr,
        )
        return 2
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"frcnn: error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        print(
            "frcnn: error: out of memory; lower train.batch_size or detector.image.*, or use --device cpu",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("frcnn: interrupted; the same command goes on with a training from its last checkpoint", file=sys.stderr)
        return 130
    return status or 0


@contextmanager
def _silence() -> Iterator[None]:
    """Of several processes, only the first one talks."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except Exception as error:
            print(f"frcnn: error in process {processes.rank()}: {error}", file=sys.__stderr__)
            raise
