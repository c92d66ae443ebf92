"""The command line: each command is one file with its arguments, help and output. Library code raises; only `cli`
prints and exits. (`frcnn.train(progress=True)` also shows a progress bar on a terminal and in a notebook.)
"""

import argparse
import io
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from frcnn import distributed
from frcnn.cli import (
    annotate,
    base_models,
    bench,
    check,
    config,
    convert,
    crossval,
    data,
    demo,
    evaluate,
    export,
    import_,
    layers,
    merge,
    plan,
    predict,
    report,
    serve,
    train,
)
from frcnn.cli.options import PLAIN
from frcnn.cli.printable import EscapingStream
from frcnn.cores import limit_threads
from frcnn.fast.malloc import tune_malloc
from frcnn.messages import one_line, short

_COMMANDS = (
    *(
        demo,
        data,
        check,
        annotate,
        convert,
        plan,
        train,
        crossval,
        evaluate,
        report,
        predict,
        merge,
        export,
        import_,
        serve,
        bench,
        layers,
        base_models,
    ),
    config,
)
"""In the order of `frcnn --help`."""

_EXIT_STATUSES = """\
example: frcnn demo

exit status:
  0    success
  1    `check --strict` found warnings or repairs, `predict` skipped images (with --parts: all images) or could not read
       a whole video, or an unexpected error
  2    invalid arguments, input or data
  130  interrupted (Ctrl-C or SIGTERM)
  141  the program that reads the output has closed it
"""

_EXTRAS = {
    "onnx": "onnx onnxruntime onnxscript",
    "onnxruntime": "onnx onnxruntime onnxscript",
    "onnxscript": "onnx onnxruntime onnxscript",
    "starlette": "starlette uvicorn",
    "uvicorn": "starlette uvicorn",
    "python_multipart": "python-multipart prometheus-client",
    "prometheus_client": "python-multipart prometheus-client",
    "ray": "'ray[data]'",
    "PIL": "pillow",
    "yaml": "pyyaml",
}
"""Module -> packages to install when it is missing; other packages have the name of their module."""


def make_parser() -> argparse.ArgumentParser:
    """All commands, their arguments and help."""
    from frcnn import __version__

    parser = argparse.ArgumentParser(
        prog="frcnn",
        description="Faster R-CNN that trains on a few labeled photos, on an ordinary computer.",
        epilog=_EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **PLAIN,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.register(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status, as `frcnn --help` lists them.
    """
    with _safe_streams():
        try:
            return _flushed(_run(arguments))
        except SystemExit as stop:  # of argparse: `--help`, `--version`, or a wrong command line
            stop.code = _flushed(int(stop.code or 0))
            raise


@contextmanager
def _safe_streams() -> Iterator[None]:
    """Make standard output and standard error accept any text."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # the caller may have closed it
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console of few characters must not end a command
            stream.reconfigure(errors="backslashreplace")
    with redirect_stdout(EscapingStream(sys.stdout)), redirect_stderr(EscapingStream(sys.stderr, allowed="\r")):
        yield


def _run(arguments: Sequence[str] | None) -> int:
    options, unknown = make_parser().parse_known_args(arguments)
    if unknown:
        names = one_line(" ".join(unknown))
        options.parser.error(f"unrecognized arguments: {names}{_setting_for(unknown[0], options)}")
    warnings.formatwarning = lambda message, *_: f"frcnn: warning: {_indented(str(message))}\n"
    tune_malloc()
    limit_threads()
    try:
        with _sigterm_interrupts(), distributed.process_group(), _only_main_process_prints():
            status: int | None = options.run(options)
    except BrokenPipeError:  # `frcnn layers NAME | head` has read enough
        return 141
    except KeyboardInterrupt as error:
        with suppress(OSError):
            print("; ".join(["frcnn: interrupted", *map(str, error.args)]), file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        return _fail(
            f"frcnn {options.command} needs {name}, which is not installed: pip install {_EXTRAS.get(name, name)}"
        )
    except (ValueError, OSError, FloatingPointError) as error:
        return _fail(str(error))
    except Exception as error:
        if _is_out_of_memory(error):
            return _fail(_out_of_memory(options.command))
        return _report_unexpected(error, options.command)
    return status or 0


def _flushed(status: int) -> int:
    """Write what standard output holds back.

    Returns:
        The exit status: another one if that is the first failure.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at the end
        if status == 0:
            return 141 if isinstance(error, BrokenPipeError) else _fail(str(error))
    return status


def _out_of_memory(command: str) -> str:
    if command in ("check", "convert", "data", "annotate", "plan"):
        return "out of memory; close other programs, or use smaller images"
    return (
        "out of memory; train with a lower detector.image.shorter_side and detector.image.longer_side, then with a "
        "lower train.batch_size if it is above 1, or use --device cpu"
    )


def _is_out_of_memory(error: Exception) -> bool:
    said = str(error).lower()  # "CUDA out of memory", "DefaultCPUAllocator: can't allocate memory"
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said


def _report_unexpected(error: Exception, command: str) -> int:
    """Report an unexpected error, and write its traceback to a file; if that is impossible, to standard error. Returns
    the exit status."""
    text = "".join(traceback.format_exception(error)).encode(errors="backslashreplace").decode()
    try:
        with tempfile.NamedTemporaryFile("w", prefix="frcnn-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(text)
        where = f"is in {file.name}"
    except OSError as reason:  # the folder for temporary files is full, or cannot be written to
        where = f"could not be written to a file ({reason}):\n{text}"
    with suppress(OSError):
        print(
            f"frcnn: error: frcnn {command}: {type(error).__name__}: {short(str(error))}\nThis is unexpected and may "
            f"be a bug in frcnn. Please report it with the traceback, which {where}",
            file=sys.stderr,
        )
    return 1


def _setting_for(argument: str, options: argparse.Namespace) -> str:
    """The setting that an unknown option may mean, if the command takes --set."""
    if not argument.startswith("--") or "set" not in options:
        return ""
    from frcnn.config import similar_settings

    name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
    similar = similar_settings(name)
    return f"; did you mean --set {similar[0]}=VALUE?" if similar else ""


def _fail(message: str) -> int:
    with suppress(OSError):  # on a full disk, the exit status still tells
        print(f"frcnn: error: {_indented(message)}", file=sys.stderr)
    return 2


def _indented(message: str) -> str:
    """The message with all lines but the first indented: a line break in a name must not imitate a message of frcnn."""
    return message.replace("\r", "\\r").replace("\n", "\n  ")


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, so that a stopped service or job ends cleanly too. Not in distributed training:
    there torchrun stops the processes, some of which wait for one that is gone."""
    if threading.current_thread() is not threading.main_thread() or "WORLD_SIZE" in os.environ:
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _only_main_process_prints() -> Iterator[None]:
    if distributed.is_main_process():
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except Exception as error:
            print(f"frcnn: error in process {distributed.rank()}: {error}", file=sys.__stderr__)
            raise
