"""Files and folders that are written whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from frcnn import files
from frcnn.data.tree import Tree
from frcnn.files import atomic_dir, atomic_write, relative_path, write_text


def test_text_is_utf_8_and_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old, and longer")
    write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("before", ["old", None])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "model.pt"
    if before is not None:
        path.write_text(before)

    def write_half() -> None:
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({"model.pt": before} if before else {})


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    assert path.read_text() == "old"


def test_the_partial_file_is_hidden_beside_it_with_the_same_suffix(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "picture.png") as partial:
        assert partial.parent == tmp_path
        assert partial.name.startswith(".")
        assert partial.suffix == ".png"
        partial.touch()


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    write_text(tmp_path / "missing" / "a.txt", "text")
    assert (tmp_path / "missing" / "a.txt").read_text() == "text"


def test_new_files_have_the_rights_of_new_files_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    usual = (tmp_path / "plain").stat().st_mode
    file = tmp_path / "weights"
    with atomic_write(file) as partial:
        partial.touch(mode=0o600)  # as some writers do
    assert file.stat().st_mode == usual
    file.chmod(0o640)
    write_text(file, "new")
    assert file.stat().st_mode & 0o777 == 0o640


def test_folders_of_killed_processes_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = files._host()
    kept = [
        f".partial-{os.getppid()}-{host}-abcdef-out",
        f".partial-{dead.pid}-{host}-abcdef-other",
        f".partial-{dead.pid}-{host}-abcdef-my-out",
        f".partial-{dead.pid}-000000-abcdef-out",  # of another machine
        f".partial-x-{host}-abcdef-out",
    ]
    for name in (*kept, f".partial-{dead.pid}-{host}-abcdef-out"):
        (tmp_path / name).mkdir()
    with atomic_dir(tmp_path / "out") as partial:
        (partial / "a").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"out", *kept}


def test_a_run_that_resumes_removes_hidden_files_folders_and_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").touch()
    (tmp_path / ".partial-1-model.onnx").mkdir()
    (tmp_path / ".partial-1-model.onnx" / "model.onnx").touch()
    (tmp_path / ".partial-2-checkpoint.pt").touch()
    (tmp_path / ".partial-3-link").symlink_to(tmp_path / "kept", target_is_directory=True)
    files.remove_partial(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "a"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_appears_when_it_is_whole(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "deep" / "out"
    if exists:
        path.mkdir(parents=True)
    with atomic_dir(path) as partial:
        (partial / "a").write_text("x")
        assert partial.parent == path.parent
        assert partial.name.startswith(".")
        assert not path.exists() or not any(path.iterdir())
    assert [file.name for file in path.iterdir()] == ["a"]
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "plain").mkdir()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_dir(tmp_path / "out") as partial:
        (partial / "missing").read_text()
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    for path in (tmp_path / "out", tmp_path / "out" / "mine"):
        with pytest.raises(FileExistsError, match="exists and is not overwritten"), atomic_dir(path):
            pass
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


# ------------------------------------------------------------------------------------------- files that belong together


def test_an_error_during_the_replacement_is_made_good_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    write_text(one, "old")
    write_text(other, "old")
    replace, calls = os.replace, []

    def fail_once(source: Path, target: Path) -> None:
        calls.append(target)
        if Path(target) == other and calls.count(target) == 1:
            raise PermissionError("another program has the file open")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(PermissionError), files.atomic_write_all(one, other) as partials:  # noqa: PT012
        for partial in partials:
            partial.write_text("new")
    assert (one.read_text(), other.read_text()) == ("new", "old")
    assert files.finish_changes(tmp_path) == {"one.txt": True, "other.txt": True}
    assert (one.read_text(), other.read_text()) == ("new", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"one.txt", "other.txt"}


def test_opening_a_data_set_removes_the_hidden_files_of_killed_processes(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = files._host()
    owned = f".partial-{dead.pid}-{host}-abcdef-one.txt"  # by a journal
    for name in (owned, f".partial-{dead.pid}-{host}-abcdef-two.txt", f".partial-{os.getppid()}-{host}-abcdef-a.txt"):
        (tmp_path / name).write_text("new")
    (tmp_path / ".frcnn-changes-1.json").write_text(json.dumps({owned: "one.txt"}))
    Tree(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"one.txt", f".partial-{os.getppid()}-{host}-abcdef-a.txt"}


@pytest.mark.parametrize(
    "content",
    [
        '{"taxes.txt": null}',
        '{"taxes.txt": "a.bboxes.tsv"}',
        '{".partial-1": "../a"}',
        '{".partial-1": 5}',
        '{"": null}',
        '{"..": null}',
        json.dumps({".partial-1": "a" * 256}),  # longer than names of files
        "[1]",
        "no JSON",
        "[" * 100_000,
    ],
)
def test_a_journal_of_a_stranger_changes_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "taxes.txt").write_text("mine")
    journal = tmp_path / ".frcnn-changes-1.json"
    journal.write_text(content)
    with pytest.raises(ValueError, match=r"\.frcnn-changes-1\.json: not written by frcnn; delete this file"):
        files.finish_changes(tmp_path)
    assert (tmp_path / "taxes.txt").read_text() == "mine"


def test_a_path_is_relative_or_on_another_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "images" / "a.jpg"
    assert relative_path(image, tmp_path / "labels") == "../images/a.jpg"

    def other_drive(path: Path, start: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert relative_path(image, tmp_path / "labels") == image.as_posix()
