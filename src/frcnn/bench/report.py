"""What was measured, as a table for people and as JSON for programs."""

import json
from typing import Any, NamedTuple

from frcnn.bench.machine import Peak, machine
from frcnn.bench.timing import OURS, Row


class Found(NamedTuple):
    """What a run measured."""

    rows: list[Row]
    peaks: dict[str, Peak]
    """Of the machine, by precision."""


def table(found: Found) -> str:
    """Markdown: medians, how far rounds were apart, and how many times as fast ours is."""
    lines = [
        "| work | way | ms, median | fastest to slowest | frcnn is faster | share of peak |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in found.rows:
        for way, seconds in row.seconds.items():
            ours = way == OURS
            share = f"{row.gflop / row.median(way) / found.peaks[row.precision].conv:.0%}" if ours and row.gflop else ""
            lines.append(
                f"| {row.work if ours else ''} | {f'{way}, {row.precision}' if ours else way} "
                f"| {_ms(row.median(way))} | {_ms(min(seconds))} to {_ms(max(seconds))} "
                f"| {'' if ours else f'{row.ratio(way):.1f} times'} | {share} |"
            )
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f}"


def to_json(found: Found) -> str:
    """All rounds too; `ratios` is what can be compared between runs."""
    plain: dict[str, Any] = {
        "machine": machine(),
        "peak_gflop_per_second": {precision: peak._asdict() for precision, peak in found.peaks.items()},
        "rows": [
            {
                **row._asdict(),
                "medians": {way: row.median(way) for way in row.seconds},
                "ratios": {way: round(row.ratio(way), 3) for way in row.seconds if way != OURS},
            }
            for row in found.rows
        ],
    }
    return json.dumps(plain, indent=1) + "\n"
