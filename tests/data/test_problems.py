"""Every kind of problem has one name, which the code uses and the documentation explains."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

import frcnn
from frcnn.data.dataset import lost_data
from frcnn.data.problems import Level, Problem, ProblemKind, missing_image, problem_json, without_root
from frcnn.data.records import Records, make_record

ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_is_documented_once_with_its_levels() -> None:
    section = (ROOT / "docs" / "data.md").read_text().partition("## Every kind of problem")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    assert [kind for row in rows for kind in re.findall("`(.+?)`", row[0])] == list(ProblemKind)
    assert {level.strip() for row in rows for level in row[1].split(",")} == set(get_args(Level))


def test_every_kind_is_used_and_none_is_free_text() -> None:
    sources = [file.read_text() for file in Path(frcnn.__file__).parent.rglob("*.py")]
    used = {name for source in sources for name in re.findall(r"ProblemKind\.([A-Z_]+)", source)}
    assert used == set(ProblemKind.__members__)
    assert not [match for source in sources for match in re.findall(r"""\bProblem\(\s*f?["'].*""", source)]


def test_json_has_the_kind_as_plain_text() -> None:
    content = problem_json(missing_image(Path("a.json"), "there is no image 1.png", lost=["cat", "dog"]))
    assert type(content["kind"]) is str
    assert json.loads(json.dumps(content))["kind"] == "missing image"


@pytest.mark.parametrize("root", ["/home/jane/data", "data"])
def test_a_problem_without_the_folder_of_the_data(root: str) -> None:
    problem = missing_image(Path(root, "a/1.json"), f"database: 2.png is not in {root}, but {root}/b/2.png is")
    inside = without_root(problem, Path(root))
    assert (inside.path, inside.message.startswith("database: 2.png is not in data, but ")) == (Path("a/1.json"), True)
    assert "jane" not in str(inside)
    assert without_root(problem, Path("/mnt")).path == Path("1.json")


def records(*names: str) -> Records:
    return Records.of([make_record(Path("1.png"), [((0, 0, 1, 1), name) for name in names])])


@pytest.mark.parametrize(
    ("lost", "reasons"),
    [
        ((), []),
        (("cat",), []),
        (("",), []),
        (("dog",), ["all objects of the class 'dog' (1) would be left out"]),
        (("cat",) * 3, ["3 of 22 objects would be left out"]),
        (
            ("dog", "owl", "dog"),
            [
                "3 of 22 objects would be left out",
                "all objects of the classes 'dog' (2), 'owl' (1) would be left out",
            ],
        ),
    ],
)
def test_a_class_that_is_lost_with_its_images_counts(lost: tuple[str, ...], reasons: list[str]) -> None:
    kept = [records(*["cat"] * 10), *(records("cat") for _ in range(9))]
    problem = missing_image(Path("a.json"), "there is no image 1.png", lost=lost)
    assert problem.objects == len(lost)
    assert lost_data(kept, [problem] if lost else []) == reasons


def test_a_problem_is_hashable() -> None:
    """Equal problems of two splits count once."""
    problem = Problem(ProblemKind.MISSING_IMAGE, Path("a.json"), "there is no image", lost=("cat",))
    assert list(dict.fromkeys([problem, problem._replace()])) == [problem]
