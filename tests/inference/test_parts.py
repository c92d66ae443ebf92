"""Detections of many images in parts: shards, resuming, merging."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import draw_image, trained_run

from frcnn.cli import main
from frcnn.detector import load
from frcnn.inference.parts.listing import DigestSet, Shard, digest_of, list_names
from frcnn.inference.parts.merge import merge_parts
from frcnn.inference.parts.predict import predict_in_parts
from frcnn.inference.parts.rows import read_rows
from frcnn.inference.parts.state import ShardState, read_states

SLOWLY = """
import sys, time
from frcnn import files
from frcnn.cli import main
fsync = files.os.fsync
def slow(file):  # so that some kills come while a part is written
    time.sleep(0.05)
    fsync(file)
files.os.fsync = slow
sys.exit(main())
"""
"""`frcnn` with a slow disk."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(trained_run(), tmp_path_factory.mktemp("run") / "run"))


def write_photos(folder: Path, count: int) -> Path:
    """Photos in two folders."""
    (folder / "more").mkdir(parents=True)
    for number in range(count):
        x = 4 + number % 30
        image = draw_image([("red", (x, 12, x + 50, 70))], seed=number)
        image.save((folder / "more" if number % 2 else folder) / f"{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 12)


def names_in(parts: Path) -> list[str]:
    return [row["image"] for file in sorted(parts.glob("part-*")) for row in read_rows(file)]


def names_of(photos: Path) -> list[str]:
    return sorted(name for name, _ in list_names(photos))


def predict(run: Path, source: str | Path, parts: Path, *options: str) -> int:
    return main(["predict", str(run), str(source), "--parts", str(parts), "--threshold", "0.05", *options])


# -------------------------------------------------------------------------------------------------------------- shards


def test_the_hash_of_a_name_never_changes() -> None:
    """Else parts of an earlier version could not be resumed, and machines would not agree."""
    assert digest_of("a.jpg").hex() == "cde2f4fce9daad975ab1202fd69b5951"
    assert digest_of("more/ä.jpg").hex() == "52b9569c7c14332caa869b6ef4ad70c6"
    assert [index for index in range(7) if Shard(index, 7).holds(digest_of("a.jpg"))] == [2]


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"])), max_size=50), st.integers(1, 12))
def test_each_image_is_in_exactly_one_shard(names: set[str], count: int) -> None:
    shards = [{name for name in names if Shard(index, count).holds(digest_of(name))} for index in range(count)]
    assert sum(map(len, shards)) == len(names)
    assert set().union(*shards) == names


def test_shards_have_about_the_same_size() -> None:
    counts = Counter(int.from_bytes(digest_of(f"{n}.jpg"), "big") % 8 for n in range(8000))
    assert len(counts) == 8
    assert max(counts.values()) < 1150


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "0/0", "1/4/2", "a/b", "0.5/2", "٠/٤", "1 /4"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be I/N"):
        Shard.parse(text)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=400))
def test_a_set_of_digests_is_a_set(numbers: list[int]) -> None:
    """Also of digests that end in zeros, which NumPy drops."""
    found, expected = DigestSet(), set[bytes]()
    for number in numbers:
        digest = number.to_bytes(2, "big") * 2 + bytes(12) if number % 2 else digest_of(str(number))
        assert found.add(digest) == (digest not in expected)
        expected.add(digest)
        assert len(found) == len(expected)
    assert all(digest in found for digest in expected)


def test_a_large_set_of_digests_is_compact() -> None:
    found = DigestSet()
    digests = [digest_of(str(number)) for number in range(150_000)]
    assert all(found.add(digest) for digest in digests)
    assert not any(found.add(digest) for digest in digests)
    assert len(found) == 150_000
    assert len(found._new) < 1 << 16
    assert digest_of("-1") not in found


def test_a_set_of_digests_takes_up_to_40_bytes_for_each_also_while_it_grows() -> None:
    generator = np.random.default_rng(0)
    many, more = 520_000, 66_000
    tracemalloc.start()
    found = DigestSet()
    found._sorted = np.sort(np.frombuffer(generator.bytes(16 * many), "S16"))
    tracemalloc.reset_peak()
    for _ in range(more):
        found.add(generator.bytes(16))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found._sorted) > many
    assert peak < 40 * (many + more)


# ---------------------------------------------------------------------------------------------------------- the images


def test_a_folder_is_searched_without_what_is_hidden(photos: Path) -> None:
    (photos / ".hidden").mkdir()
    shutil.copy(photos / "0.png", photos / ".hidden" / "1.png")
    shutil.copy(photos / "0.png", photos / ".0.png")
    (photos / "notes.md").write_text("no image")
    expected = {f"{n}.png" if n % 2 == 0 else f"more/{n}.png" for n in range(12)}
    assert {name for name, _ in list_names(photos)} == expected
    assert {name for name, _ in list_names(f"{photos}/**/*.png")} == expected
    assert {name for name, _ in list_names(f"{photos}/more/1*.png")} == {"1.png", "11.png"}
    assert all(path.is_file() for _, path in list_names(f"{photos}/more/1*.png"))


def test_links_to_folders_are_followed_by_a_pattern_only(photos: Path, tmp_path: Path) -> None:
    """`docs/many-images.md` says so."""
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "photos").symlink_to(photos)
    (folder / "a.png").symlink_to(photos / "0.png")
    assert [name for name, _ in list_names(folder)] == ["a.png"]
    assert {name for name, _ in list_names(f"{folder}/**/[a1].png")} == {"a.png", "photos/more/1.png"}


def test_a_list_names_images_relative_to_its_folder(photos: Path, tmp_path: Path) -> None:
    file = photos / "list.txt"
    file.write_bytes("\ufeff0.png\r\n\nmore/1.png\n./2.png\n/elsewhere/é.png\n".encode() + b"\xff.png\n")
    found = dict(list_names(file))
    assert list(found) == ["0.png", "more/1.png", "2.png", "/elsewhere/é.png", r"\xff.png"]
    assert found["more/1.png"] == photos / "more" / "1.png"
    assert found["/elsewhere/é.png"] == Path("/elsewhere/é.png")
    assert os.fsencode(found[r"\xff.png"]).endswith(b"/\xff.png")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such folder or list"),
        ("0.png", "name one folder, one text file"),
        ("none*.png", "has no images"),
        ("empty", "has no images"),
    ],
)
def test_a_source_without_images_is_refused(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    (photos / "empty").mkdir()
    assert predict(run, photos / source, tmp_path / "parts") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "parts").exists()


# ---------------------------------------------------------------------------------------------------------- prediction


def test_shards_predict_what_one_process_predicts(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.jpg").write_text("no image")
    (photos / "more" / "empty.png").write_bytes(b"")
    parts, out = tmp_path / "parts", tmp_path / "all.jsonl"
    for index in range(3):
        assert predict(run, photos, parts, "--shard", f"{index}/3", "--part-size", "2") == 0
    warnings = capsys.readouterr().err
    assert warnings.count("frcnn: warning: ") == 2
    assert main(["merge", str(parts), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "bad.jpg: " in printed
    assert "the file is empty" in printed
    assert f"{out}: 14 images of 3 shards, 2 with an error" in printed
    rows = {row["image"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert sorted(rows) == names_of(photos)
    assert "not an image" in rows["bad.jpg"]["error"]
    detector = load(run)
    detected = 0
    for name, row in rows.items():
        if "error" not in row:
            detections = detector.predict(photos / name, threshold=0.05)
            assert row == {"image": name, "width": 128, "height": 96, **_without_image(detections.to_dict())}
            detected += len(detections)
    assert detected > 10
    assert max(Counter(file.name.split("-")[1] for file in parts.glob("part-*")).values()) > 1


def test_the_status_is_1_if_all_images_fail(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list in a wrong folder, or a disk that is not mounted."""
    parts = tmp_path / "parts"
    (tmp_path / "list.txt").write_text("0.png\n2.png\n")
    assert predict(run, tmp_path / "list.txt", parts) == 1
    out, error = capsys.readouterr()
    assert re.search(r"shard 0/1: 2 images done, 2 in this run \(\d+\.\d images per second\), 2 of these failed", out)
    assert f"{parts}: all images of this run failed" in error
    (tmp_path / "list.txt").write_text("0.png\nphotos/0.png\nphotos/2.png\nnone.png\n")
    assert predict(run, tmp_path / "list.txt", parts, "--resume") == 0
    assert predict(run, tmp_path / "list.txt", parts, "--resume") == 0  # nothing is left to predict


def _without_image(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "image"}


def test_resuming_predicts_what_is_missing_and_what_is_new(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "parts"
    assert predict(run, photos, parts, "--part-size", "5", "--resume") == 0  # nothing to resume: it begins
    before = {file.name: file.read_bytes() for file in parts.glob("part-*")}
    assert len(before) == 3
    assert predict(run, photos, parts) == 2
    assert "has parts of shard 0/1; add --resume" in capsys.readouterr().err
    assert predict(run, photos, parts, "--resume") == 0
    assert "12 images done, 0 in this run" in capsys.readouterr().out
    (parts / "part-0-000001.jsonl").unlink()
    shutil.copy(photos / "0.png", photos / "new.png")
    with pytest.raises(ValueError, match="finished with 12 images, but its parts hold 7; run it again with --resume"):
        merge_parts(parts, None)
    assert predict(run, photos, parts, "--resume") == 0
    assert "13 images done, 6 in this run" in capsys.readouterr().out
    assert sorted(names_in(parts)) == names_of(photos)
    assert (parts / "part-0-000000.jsonl").read_bytes() == before["part-0-000000.jsonl"]
    assert merge_parts(parts, None).images == 13


def test_an_image_that_is_listed_twice_is_predicted_once(run: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "list.txt").write_text("0.png\n2.png\n./0.png\n0.png\n")
    assert predict(run, photos / "list.txt", tmp_path / "parts") == 0
    assert names_in(tmp_path / "parts") == ["0.png", "2.png"]
    assert merge_parts(tmp_path / "parts", None).images == 2


CHANGED = {
    "threshold": (["--threshold", "0.4"], "threshold: this command has 0.4, shard 0/2 has 0.05"),
    "tile": (["--tile", "64"], "tile: this command has 64, shard 0/2 has None"),
    "shards": (["--shard", "1/3"], "shards: this command has 3, shard 0/2 has 2"),
}


@pytest.mark.parametrize(("options", "message"), CHANGED.values(), ids=CHANGED)
def test_other_settings_are_refused(
    run: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    parts = tmp_path / "parts"
    assert predict(run, photos, parts, "--shard", "0/2") == 0
    assert predict(run, photos, parts, "--shard", "1/2", "--resume", *options) == 2
    assert message in capsys.readouterr().err


def test_a_changed_model_is_refused(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, other = tmp_path / "parts", tmp_path / "other.safetensors"
    assert predict(run, photos, parts, "--shard", "0/2") == 0
    assert predict(run / "model.safetensors", photos, parts, "--shard", "0/2", "--resume") == 0  # the same weights
    detector = load(run)
    detector.model.roi_head.logits.bias.data += 0.01
    detector.save(other)
    assert predict(other, photos, parts, "--shard", "1/2") == 2
    assert "its parts need the same settings (model: this command has" in capsys.readouterr().err
    shutil.copytree(parts, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "_shard-0-of-2.json").unlink()
    assert predict(other, photos, tmp_path / "elsewhere", "--shard", "1/2") == 0
    shutil.copy(tmp_path / "elsewhere" / "_shard-1-of-2.json", parts)
    with pytest.raises(ValueError, match="model: shard 0/2 has"):  # two machines that began at the same moment
        merge_parts(parts, None)


def test_shards_with_different_settings_are_not_merged(tmp_path: Path) -> None:
    for index, tile in enumerate((None, None, 512)):
        ShardState({"tile": tile}, None).write(tmp_path, Shard(index, 3))
    with pytest.raises(ValueError, match=r"same settings \(tile: shard 1/3 has None, shard 2/3 has 512\)"):
        read_states(tmp_path)


@pytest.mark.parametrize("content", [b"{}\n", b"nonsense\n", b"[1]\n", b'{"image": "0.p', b'{"image": 3}\n', b"\xff\n"])
def test_a_damaged_part_is_named(run: Path, photos: Path, tmp_path: Path, content: bytes) -> None:
    parts = tmp_path / "parts"
    assert predict(run, photos, parts, "--part-size", "5") == 0
    part = parts / "part-0-000001.jsonl"
    part.write_bytes(part.read_bytes() + content)
    message = r"part-0-000001\.jsonl: damaged .* delete this file and run the same `frcnn predict` again with --resume"
    with pytest.raises(ValueError, match=message):
        merge_parts(parts, None)
    assert predict(run, photos, parts, "--resume") == 2
    part.unlink()
    assert predict(run, photos, parts, "--resume") == 0
    assert sorted(names_in(parts)) == names_of(photos)


def test_a_disk_that_fails_stops_the_job(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are good, so they may not become errors in the parts."""
    from frcnn.data import images

    opened, original = [], images.open_image

    def fail_later(path: Path, **options: Any) -> Any:
        opened.append(path)
        if len(opened) > 6:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(path, **options)

    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(images, "open_image", fail_later)
        assert predict(run, photos, parts, "--part-size", "100") == 2
    assert 0 < len(names_in(parts)) < 12  # what was done is written
    assert predict(run, photos, parts, "--resume") == 0
    assert merge_parts(parts, None) == (12, 0, 1)


def test_an_interrupted_job_writes_what_it_has(run: Path, photos: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []

    def interrupt(row: dict[str, Any]) -> None:
        rows.append(row)
        if len(rows) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_in_parts(load(run).runtime, photos, tmp_path / "parts", settings={}, threshold=0.05, on_row=interrupt)
    assert names_in(tmp_path / "parts") == [row["image"] for row in rows]


def test_two_processes_do_not_predict_one_shard(run: Path, photos: Path, tmp_path: Path) -> None:
    runtime, parts = load(run).runtime, tmp_path / "parts"
    refused: list[str] = []

    def begin_again(row: dict[str, Any]) -> None:
        with pytest.raises(FileExistsError) as error:
            predict_in_parts(runtime, photos, parts, settings={}, threshold=0.05, resume=True)
        refused.append(str(error.value))

    predict_in_parts(runtime, photos, parts, settings={}, threshold=0.05, on_row=begin_again)
    assert len(refused) == 12
    assert "another process predicts shard 0/1" in refused[0]


def test_a_run_directory_without_weights_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    assert predict(tmp_path / "run", photos, tmp_path / "parts") == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "run") in error
    assert "Errno" not in error


def test_an_onnx_file_predicts_in_parts(run: Path, photos: Path, tmp_path: Path) -> None:
    load(run).export("onnx", tmp_path / "model.onnx")
    assert predict(tmp_path / "model.onnx", photos, tmp_path / "parts") == 0
    assert sorted(names_in(tmp_path / "parts")) == names_of(photos)


OPTIONS = {
    "shard alone": (["--shard", "0/2"], "--shard needs --parts DIR"),
    "resume alone": (["--resume"], "--resume needs --parts DIR"),
    "ray alone": (["--ray"], "--ray needs --parts DIR"),
    "pictures": (["--parts", "p", "--out", "o"], "--out cannot be used with --parts"),
    "json": (["--parts", "p", "--json", "-"], "--json cannot be used with --parts"),
    "tracks": (["--parts", "p", "--track"], "--track cannot be used with --parts"),
    "workers": (["--parts", "p", "--workers", "2"], "--workers needs --ray"),
    "shard and ray": (["--parts", "p", "--ray", "--shard", "0/2"], "--shard cannot be used with --ray"),
    "two sources": (["other", "--parts", "p"], "not 2 arguments; put a pattern in quotes"),
    "wrong shard": (["--parts", "p", "--shard", "2/2"], "shard '2/2': must be I/N"),
    "overlap": (["--parts", "p", "--overlap", "0.1"], "set the tile too"),
}


@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_do_not_belong_together(
    run: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(run), str(photos), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("option", "module", "package"), [("--parquet", "pyarrow", "pyarrow"), ("--ray", "ray", "'ray[data]'")]
)
def test_a_missing_package_is_named_first(
    run: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    module: str,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "frcnn.ray", raising=False)
    assert predict(run, photos, tmp_path / "parts", option) == 2
    assert f"frcnn predict needs {module}, which is not installed: pip install {package}" in capsys.readouterr().err
    assert not (tmp_path / "parts").exists()


# --------------------------------------------------------------------------------------------------------------- merge


def test_a_merge_says_which_shards_are_not_finished(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, out = tmp_path / "parts", tmp_path / "all.jsonl"
    assert main(["merge", str(parts)]) == 2
    assert "parts: has no parts" in capsys.readouterr().err
    assert predict(run, photos, parts, "--shard", "1/3") == 0
    assert main(["merge", str(parts), "--out", str(out)]) == 2
    assert "2 shards of 3 not finished: 0/3, 2/3; run them with --resume" in capsys.readouterr().err
    assert not out.exists()
    assert main(["merge", str(parts), "--out", str(out), "--incomplete"]) == 0
    assert "of 1 shard, 0 with an error" in capsys.readouterr().out
    assert [json.loads(line)["image"] for line in out.read_text().splitlines()] == names_in(parts)
    assert main(["merge", str(parts), "--out", str(tmp_path / "all.csv")]) == 2


def test_a_merge_notices_images_that_came_in_the_meantime(run: Path, photos: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    assert predict(run, photos, parts, "--shard", "0/2") == 0
    shutil.copy(photos / "0.png", photos / "new.png")
    assert predict(run, photos, parts, "--shard", "1/2") == 0
    with pytest.raises(ValueError, match=r"listed different images \(numbers of images: 0/2: 12, 1/2: 13\)"):
        merge_parts(parts, None)
    assert predict(run, photos, parts, "--shard", "0/2", "--resume") == 0
    assert merge_parts(parts, None).images == 13


def test_a_merge_notices_a_duplicated_image(run: Path, photos: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    for index in range(2):
        assert predict(run, photos, parts, "--shard", f"{index}/2", "--part-size", "2") == 0
    copy = parts / "part-0-000099.jsonl"
    shutil.copy(parts / "part-0-000000.jsonl", copy)
    with pytest.raises(ValueError, match=r"part-0-000099\.jsonl: holds .*, which an earlier part holds too"):
        merge_parts(parts, None)
    shutil.copy(parts / "part-1-000000.jsonl", copy)
    with pytest.raises(ValueError, match=r"part-0-000099\.jsonl: holds .*, which is not of shard 0/2"):
        merge_parts(parts, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "damaged"), ("[]", "damaged"), ('{"format": 9, "settings": {}, "finished": null}', "has format 9")],
)
def test_a_damaged_state_is_named(run: Path, photos: Path, tmp_path: Path, content: str, message: str) -> None:
    parts = tmp_path / "parts"
    assert predict(run, photos, parts) == 0
    (parts / "_shard-0-of-1.json").write_text(content)
    with pytest.raises(ValueError, match=rf"_shard-0-of-1\.json: {message}"):
        merge_parts(parts, None)


# ------------------------------------------------------------------------------------------------------------- SIGKILL


@pytest.mark.parametrize(("kills", "count"), [(6, 80), pytest.param(20, 200, marks=pytest.mark.slow)])
def test_a_job_that_is_killed_loses_and_duplicates_no_image(kills: int, count: int, run: Path, tmp_path: Path) -> None:
    photos, parts = write_photos(tmp_path / "photos", count), tmp_path / "parts"
    (photos / "bad.jpg").write_text("no image")
    command = [sys.executable, "-c", SLOWLY, "predict", str(run), str(photos), "--parts", str(parts)]
    command += ["--threshold", "0.05", "--part-size", "3", "--resume"]
    generator = random.Random(0)
    moments = Counter[str]()
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if generator.random() < 0.8:  # else while it starts, or reads the parts
            process.stdout.readline()  # it has written its first part
        time.sleep(generator.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        moments["while a part was written" if list(parts.glob(".partial-*")) else "else"] += 1
    assert len(moments) == 2 or kills < 20, moments
    assert kills < len(names_in(parts)) <= count
    with pytest.raises(ValueError, match="not finished"):
        merge_parts(parts, None)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(names_in(parts)) == names_of(photos)
    assert merge_parts(parts, tmp_path / "all.jsonl") == (count + 1, 1, 1)
    assert not list(parts.glob(".partial-*"))
