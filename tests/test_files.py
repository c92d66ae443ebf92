"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from frcnn.files import whole_file, write_text


def test_text_is_utf_8_and_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old, and longer")
    write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("before", ["old", None])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "model.pt"
    if before is not None:
        path.write_text(before)

    def write_half() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({"model.pt": before} if before else {})


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass
    assert path.read_text() == "old"


def test_the_partial_file_is_hidden_beside_it_with_the_same_suffix(tmp_path: Path) -> None:
    with whole_file(tmp_path / "picture.png") as partial:
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
    with whole_file(file) as partial:
        partial.touch(mode=0o600)  # as some writers do
    assert file.stat().st_mode == usual
    file.chmod(0o640)
    write_text(file, "new")
    assert file.stat().st_mode & 0o777 == 0o640
