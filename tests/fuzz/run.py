"""Try many broken and hostile files, and write benchmarks/hostile.md.

    python tests/fuzz/run.py [--cases 100] [--seed 0] [--kinds NAME ...]

The cases run in a second process, so that a crash is a finding too. A case is a real file with one to four
changes. It passes if reading it ends within 10 s and 2 GB, in a result or in a clear error: a ValueError or an OSError
that names the file, of at most 40 lines. The same seed gives the same cases.
"""

import argparse
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from random import Random
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "benchmarks")]

from compare.machine import machine  # noqa: E402
from fuzz.kinds import KINDS, run_case  # noqa: E402

REPORT = TESTS.parent / "benchmarks" / "hostile.md"


class Row(NamedTuple):
    """The cases of one kind."""

    results: int
    errors: int
    failures: list[str]
    seconds: float
    """Of the slowest case."""
    megabytes: float
    """Of the case that needs most."""


def try_kind(name: str, cases: int, seed: int) -> Row:
    warnings.simplefilter("ignore")
    counts: Counter[bool] = Counter()
    failures: list[str] = []
    seconds = megabytes = 0.0
    for number in range(cases):
        try:
            outcome = run_case(KINDS[name], Random(f"{name} {seed} {number}"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failures.append(f"case {number}: {type(error).__name__}: {str(error)[:200]}")
        else:
            counts[outcome.error is None] += 1
            seconds, megabytes = max(seconds, outcome.seconds), max(megabytes, outcome.bytes / 1e6)
    return Row(counts[True], counts[False], failures, seconds, megabytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    rows: dict[str, Row] = {}
    start = time.monotonic()
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    for name in options.kinds:
        try:
            rows[name] = pool.submit(try_kind, name, options.cases, options.seed).result()
        except BrokenProcessPool:
            rows[name] = Row(0, 0, ["the process crashed"] * options.cases, 0, 0)
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        print(name, rows[name], flush=True)
    if options.kinds == list(KINDS):
        REPORT.write_text(report(rows, options.cases, options.seed, time.monotonic() - start), encoding="utf-8")
    if any(row.failures for row in rows.values()):
        raise SystemExit("some cases failed")


def report(rows: dict[str, Row], cases: int, seed: int, seconds: float) -> str:
    total, failed = cases * len(rows), sum(len(row.failures) for row in rows.values())
    lines = [
        "# Broken and hostile files",
        "",
        f"{total - failed:,} of {total:,} cases passed. A case is a real file with one to four changes. It passes if "
        "reading it ends within 10 s and 2 GB, in a result or in an error that names the file.",
        f"`python tests/fuzz/run.py --cases {cases} --seed {seed}` (`make fuzz`) wrote this in {seconds / 60:.0f} min.",
        "",
        f"Slowest case: {max(row.seconds for row in rows.values()):.1f} s. Most memory: "
        f"{max(row.megabytes for row in rows.values()):.0f} MB.",
        "",
        "| kind of file | result | clear error | failed | slowest, s | most memory, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row.results} | {row.errors} | {len(row.failures)} | {row.seconds:.2f} | {row.megabytes:.0f} |"
        for name, row in rows.items()
    ]
    failures = [f"* {name}: {failure}" for name, row in rows.items() for failure in row.failures]
    return "\n".join(
        [*lines, "", *(["## Failures", "", *failures, ""] if failures else []), f"Machine: {machine()}", ""]
    )


if __name__ == "__main__":
    main()
