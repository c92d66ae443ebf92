"""The results as a table and as JSON."""

import json
from typing import Any, NamedTuple

from compare.machine import Peak, machine
from compare.timing import OURS, Row


class Results(NamedTuple):
    """The measurements of one run."""

    rows: list[Row]
    peaks: dict[str, Peak]
    """Peak speed of the machine, by precision."""


def table(results: Results) -> str:
    """A Markdown table: medians, ranges, and how many times faster frcnn is."""
    lines = [
        "| work | way | ms, median | fastest to slowest | frcnn is faster | share of peak |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in results.rows:
        for way, seconds in row.seconds.items():
            ours = way == OURS
            share = (
                f"{row.gflop / row.median(way) / results.peaks[row.precision].conv:.0%}" if ours and row.gflop else ""
            )
            lines.append(
                f"| {row.work if ours else ''} | {f'{way}, {row.precision}' if ours else way} "
                f"| {_ms(row.median(way))} | {_ms(min(seconds))} to {_ms(max(seconds))} "
                f"| {'' if ours else f'{row.ratio(way):.1f} times'} | {share} |"
            )
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f}"


def to_json(results: Results) -> str:
    """All rounds too. Only `ratios` can be compared between runs."""
    plain: dict[str, Any] = {
        "machine": machine(),
        "peak_gflop_per_second": {precision: peak._asdict() for precision, peak in results.peaks.items()},
        "rows": [
            {
                **row._asdict(),
                "medians": {way: row.median(way) for way in row.seconds},
                "ratios": {way: round(row.ratio(way), 3) for way in row.seconds if way != OURS},
            }
            for row in results.rows
        ],
    }
    return json.dumps(plain, indent=1) + "\n"
