"""Nothing in the package assumes Linux: what only some systems have is used behind a question whether it is there."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tiny import SETTINGS, write_tiny

import frcnn

SOURCE = Path(frcnn.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

NOT_EVERYWHERE = {
    *(
        "crypt",
        "fcntl",
        "grp",
        "nis",
        "posix",
        "pty",
        "pwd",
        "readline",
        "resource",
        "spwd",
        "syslog",
        "termios",
        "tty",
    ),
    *("_winapi", "_winreg", "msvcrt", "nt", "winreg", "winsound"),
}
"""Modules that some systems lack."""

WITHOUT_POSIX = """
import importlib.abc, os, signal, socket, sys
import matplotlib.pyplot, psutil, timm, torch, torchvision, uvicorn  # which ask for the name of the system

for name in ("fork", "getgid", "getuid", "killpg", "mkfifo", "pread", "sched_getaffinity", "sched_setaffinity",
             "setsid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "sigwait", "setitimer"):
    delattr(signal, name)
del socket.AF_UNIX

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in MISSING:
            caller = sys._getframe(1)
            while "importlib" in caller.f_code.co_filename:
                caller = caller.f_back
            if "frcnn" in caller.f_globals.get("__name__", ""):
                raise ModuleNotFoundError(f"{name}, imported by {caller.f_globals['__name__']}")

for name in MISSING:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
"""
"""Take away what Windows lacks. The modules are missing for frcnn alone: other packages know what to do on Windows, but
they ask for the name of the system."""


def test_no_module_of_one_system_is_imported_at_the_top() -> None:
    for file in FILES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & NOT_EVERYWHERE, f"{file}: line {node.lineno}"


def test_text_files_name_their_encoding() -> None:
    """Else Windows reads and writes them in its own code page."""
    for file in FILES:
        for call in text_calls(ast.parse(file.read_text(encoding="utf-8"))):
            assert "encoding" in [word.arg for word in call.keywords], f"{file}: line {call.lineno}"


def text_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that read or write text files."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            yield node
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        values = [*node.args, *(word.value for word in node.keywords)]
        modes = {each.value for each in values if isinstance(each, ast.Constant)} & {"r", "w", "a", "x", "r+", "w+"}
        if name in ("open", "fdopen") and modes:
            yield node


def test_commands_work_without_what_windows_lacks(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    lines = [
        f"MISSING = {sorted(NOT_EVERYWHERE)}",
        WITHOUT_POSIX,
        "from frcnn.cli import main",
        f"for arguments in {commands(data, tmp_path)}:",
        "    assert main(arguments) in (0, None), arguments",
        "import frcnn.serve.app, frcnn.serve.server, frcnn.tools.annotate.server",
    ]
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "found.json").is_file()


def commands(data: Path, out: Path) -> list[list[str]]:
    settings = [each for setting in SETTINGS for each in ("--set", setting)]
    return [
        ["check", str(data)],
        ["convert", str(data), str(out / "coco"), "--to", "coco"],
        ["train", str(data), "--out", str(out / "run"), *settings],
        ["predict", str(out / "run"), str(data / "testImages"), "--json", str(out / "found.json")],
    ]
