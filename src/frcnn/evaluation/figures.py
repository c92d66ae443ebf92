"""Figures of metrics, made with matplotlib."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from frcnn.evaluation.metrics import Metrics

_MOST_CLASSES = 30
"""With more, the numbers in the cells could not be read."""


def new_figure(**options: Any) -> Figure:
    """A matplotlib figure without a backend, which is saved or shown by a notebook; matplotlib is imported only here,
    because that takes half a second.

    A notebook gives the programs that it starts its MPLBACKEND, with which matplotlib cannot be imported where that
    backend is not installed.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib
    from matplotlib.figure import Figure

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return Figure(layout="constrained", **options)


def plot_confusion_matrix(metrics: Metrics) -> Figure:
    """The confusion matrix as a table of colors: rows are the classes of the objects, columns those of the detections,
    each row as fractions of its objects."""
    names = [*metrics.per_class, "background"]
    matrix = metrics.confusion_matrix
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.45 * len(names)
    figure = new_figure(figsize=(side, side))
    axes = figure.subplots()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="detected as", ylabel="object", title=f"confidence {metrics.confusion_threshold:g} or more")
    if len(names) <= _MOST_CLASSES:
        for row, column in np.argwhere(matrix).tolist():
            color = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color)
    return figure


def plot_pr(metrics: Metrics) -> Figure:
    """Precision over recall of each class, at IoU 0.5, with the best precision at each recall or a higher one."""
    figure = new_figure(figsize=(7, 5))
    axes = figure.subplots()
    for name, curve in metrics.curves.items():
        if not curve.objects:
            continue
        right = np.cumsum(curve.true)
        recall, precision = right / curve.objects, right / np.arange(1, len(right) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        axes.step([0, *recall], [best[0] if len(best) else 0, *best], where="pre", label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if len(metrics.per_class) <= _MOST_CLASSES:
        axes.legend(fontsize="small")
    return figure
