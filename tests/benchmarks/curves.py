"""Draws the losses of a model's training, one small picture per task.

    python tests/benchmarks/curves.py FOLDER [--output curves.png]

FOLDER is the model folder that `codi train` wrote; what it logged lies in FOLDER/runs.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot

COLUMNS = 4
SMOOTHED_SHARE = 0.02
"""Of the steps that each point is the mean of."""


def smoothed(values: np.ndarray) -> np.ndarray:
    width = max(1, round(SMOOTHED_SHARE * len(values)))
    return np.convolve(values, np.full(width, 1 / width), mode="valid")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("output/curves.png"))
    options = parser.parse_args()
    logs = sorted(options.folder.glob("runs/*/losses.csv"))
    rows = -(-len(logs) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(11, 2.1 * rows), squeeze=False, layout="constrained")
    for axis, log in zip(axes.flat, logs, strict=False):
        with log.open(newline="") as file:
            steps = list(csv.DictReader(file))
        for name in steps[0]:
            values = np.array([float(step[name]) for step in steps])
            if name != "step" and values.any():
                axis.plot(smoothed(values), label=name, linewidth=1)
        axis.set_yscale("log")
        axis.set_title(log.parent.name, fontsize=9)
        axis.tick_params(labelsize=6, which="both")
        axis.legend(fontsize=6)
    for axis in axes.flat[len(logs) :]:
        axis.set_axis_off()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=100)


if __name__ == "__main__":
    main()
