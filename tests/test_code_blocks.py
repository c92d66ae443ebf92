"""Every code block of the pages is run, or says why not.

The blocks of a page run from top to bottom in one folder, which holds `my_photos` and the other names that the pages
use (`make_folder`). Python blocks share their names. A block directly below `<!-- not run: REASON -->` is only parsed.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
import yaml
from filelock import FileLock
from PIL import Image
from tiny import no_connections

import frcnn
from frcnn.cli import make_parser
from frcnn.tools.toy import write_toy

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "examples/*.md", "examples/*/*.md")
    for page in ROOT.glob(pattern)
)
RUN = {"sh", "python"}
LANGUAGES = {*RUN, "text", "yaml", "json", "xml", "toml", "cpp", "csharp", "js", "html", "dockerfile"}
"""What a fence may name. Another name for a shell, such as `bash`, would not be run."""
WITH_INTERNALS = {"walkthrough.md"}
"""Pages that explain how frcnn works. The others use its public names only."""
OBJECTS = {"detector": "Detector", "detections": "Detections", "metrics": "Metrics", "result": "TrainResult"}
"""Variables of the examples, and the class of each."""
SECONDS = 300
"""That a block may take."""

MARK = "<!-- not run"
FENCE = re.compile(
    rf"^(?:{MARK}: *(?P<reason>[^\n]*?) *-->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """A fenced code block."""

    page: Path
    line: int
    """The line of the page on which the code begins, from 1."""
    language: str
    reason: str | None
    """Why it is not run; None: it is run."""
    code: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    text = page.read_text(encoding="utf-8")
    return tuple(
        Block(page, text.count("\n", 0, found.start("code")) + 1, found["language"], found["reason"], found["code"])
        for found in FENCE.finditer(text)
    )


def of_language(page: Path, language: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == language]


def is_run(block: Block) -> bool:
    return block.language in RUN and block.reason is None


# ------------------------------------------------------------------------------------------------------ what is written


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_fence_has_a_language_and_each_mark_a_reason(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^\s*(?:```|~~~).*$", text, flags=re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page)), f"a fence is indented, or more than a language follows it: {fences}"
    assert {block.language for block in blocks(page)} <= LANGUAGES
    marked = [block for block in blocks(page) if block.reason is not None]
    marks = re.findall(rf"^\s*{MARK}", text, flags=re.MULTILINE)
    assert len(marks) == len(marked), f"`{MARK}: REASON -->` stands alone on the line above its fence"
    assert not [f"{block} has no reason" for block in marked if not block.reason]
    assert not [f"{block} is never run" for block in marked if block.language not in RUN]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_of_data_can_be_read(page: Path) -> None:
    for block in of_language(page, "json"):  # one value or several
        rest = block.code.strip()
        while rest:
            _, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:].strip()
    for block in of_language(page, "yaml"):
        yaml.safe_load(block.code)
    for block in of_language(page, "xml"):
        ElementTree.fromstring(block.code)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_valid(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser()
    for block in of_language(page, "sh"):
        read = subprocess.run(["bash", "-n", "-c", block.code], capture_output=True, text=True, check=False)
        assert read.returncode == 0, f"{block}: {read.stderr}"
        for arguments in commands(block):
            try:
                parser.parse_args(arguments)
            except SystemExit:
                pytest.fail(f"{block}: frcnn {' '.join(arguments)}: {capsys.readouterr().err.splitlines()[-1]}")


def commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each `frcnn` command, also of `torchrun ... -m frcnn`."""
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("();<>|&"):
                yield from arguments_of(command)
                command = []
            else:
                command.append(word)


def arguments_of(command: list[str]) -> Iterator[list[str]]:
    for place, word in enumerate(command):
        before = command[:place]
        if word == "frcnn" and (before[-1:] == ["-m"] or all("=" in each for each in before)):
            yield command[place + 1 :]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_use_public_names_only(page: Path) -> None:
    for block in of_language(page, "python"):
        tree = ast.parse(block.code, str(block))
        if page.name in WITH_INTERNALS:
            continue
        sources = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [source for source in sources if source.partition(".")[0] == "frcnn"], block
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id == "frcnn":
                assert node.attr in (*frcnn.__all__, "ray"), block  # a module with an extra of its own
            elif node.value.id in OBJECTS:
                shown = getattr(frcnn, OBJECTS[node.value.id])
                assert node.attr in {*dir(shown), *shown.__annotations__}, block


def test_many_blocks_are_run() -> None:
    written = [block for page in PAGES for block in blocks(page) if block.language in RUN]
    reasons = Counter(block.reason for block in written if block.reason is not None)
    print(f"{len(written)} blocks of sh and python, {sum(map(is_run, written))} of them run. The others:")
    for reason, count in reasons.most_common():
        print(f"{count:3} {reason}")
    assert sum(map(is_run, written)) > 0.4 * len(written)
    assert len(written) > 60
    assert sum(len(list(commands(block))) for page in PAGES for block in of_language(page, "sh")) > 80
    assert len([block for block in of_language(ROOT / "docs" / "walkthrough.md", "python") if is_run(block)]) >= 8


# --------------------------------------------------------------------------------------------------------- what it does


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, blocks(page)))], ids=name_of)
def test_blocks_run(page: Path, folder: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name, value in environment(programs).items():
        monkeypatch.setenv(name, value)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in filter(is_run, blocks(page)):
        started = time.monotonic()
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")  # errors name the page's line
            with no_connections(monkeypatch):
                exec(code, names)
        else:
            run_sh(block)
        print(f"{block}: {time.monotonic() - started:.1f} s")


def run_sh(block: Block) -> None:
    trap = "trap 'echo \"line $LINENO: exit status $?\" >&2' ERR"
    script = trap + "\n" * (block.line - 1) + block.code  # errors name the page's line
    command = ["bash", "-e", "-c", script, name_of(block.page)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(done.stdout)
    if done.returncode:
        pytest.fail(f"{block}: {done.stdout[-3000:]}")


def environment(programs: Path) -> dict[str, str]:
    """One thread, the commands of this environment, and no connection to other machines."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
        "FRCNN_CACHE": str(programs / "cache"),
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "no_proxy": "localhost,127.0.0.1",
    }


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for PATH: `frcnn` without the time of its imports, and `uv` that only checks what it would install."""
    folder = tmp_path_factory.mktemp("programs")
    server = Path(__file__).with_name("warm_frcnn.py")
    path = folder / "socket"
    for name, command in (
        ("frcnn", f'exec {shlex.join([sys.executable, "-S", "-E", str(server), str(path), "run"])} "$@"'),
        ("uv", f'exec {shlex.join([sys.executable, str(Path(__file__).with_name("installed.py"))])} "$@"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    started = subprocess.Popen([sys.executable, server, path, "serve"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not path.exists():
        assert started.poll() is None, "the server has ended"
        time.sleep(0.05)
    yield folder
    started.terminate()
    started.wait()


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the folder for a page. It is made once, by the first of the processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pages"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            make_folder(made.with_suffix(".partial"))
            made.with_suffix(".partial").rename(made)
    copy = tmp_path / "page"
    shutil.copytree(made, copy)
    for file in copy.rglob("local.yaml"):  # where the data of a run is
        text = file.read_text(encoding="utf-8").replace(str(made.with_suffix(".partial")), str(copy))
        file.write_text(text, encoding="utf-8")
    yield copy
    shutil.rmtree(copy)  # about 100 MB


def make_folder(folder: Path) -> None:
    """The names that the pages use, but small: toy images, and a detector that was trained on them for seconds."""
    write_toy(folder / "toy", seed=1, num_train=24, num_test=6, num_negative=2)
    frcnn.convert(folder / "toy", folder / "my_photos", "pascal_voc")
    shutil.rmtree(folder / "toy")

    write_toy(folder / "photos", seed=2, num_train=0, num_test=5, num_negative=0)
    scenes = [Image.open(file) for file in sorted((folder / "photos" / "testImages").glob("*.jpg"))]
    for image in scenes:
        image.load()
    shutil.rmtree(folder / "photos")
    for name, image in zip(("new", "holiday/1", "holiday/2", "photos/a", "photos/2024/b"), scenes, strict=True):
        file = folder / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    shutil.copy(folder / "new.jpg", folder / "holiday" / "3.jpg")
    aerial = Image.new("RGB", (2000, 1000))
    for number, image in enumerate(scenes):
        aerial.paste(image, (400 * number, 300 * (number % 2)))
    aerial.save(folder / "aerial.jpg")
    command = ["ffmpeg", "-loglevel", "error", "-loop", "1", "-i", folder / "new.jpg", "-vf", "scale=320:240"]
    subprocess.run([*command, "-r", "5", "-t", "1", "-pix_fmt", "yuv420p", folder / "street.mp4"], check=True)

    small = {"detector.image.shorter_side": 240, "detector.image.longer_side": 320}
    options: dict[str, Any] = {"epochs": 2, "lr": 0.02, "settings": small, "plan": False, "offline": True}
    frcnn.train(folder / "my_photos", out=folder / "run", progress=False, **options)
    for name in ("my_photos-efficientnet_lite0", "earlier"):
        shutil.copytree(folder / "run", folder / "runs" / name)
