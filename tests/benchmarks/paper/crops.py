"""A part of one photograph at five widths: `python -m tests.benchmarks paper.crops --png FILE`.

The models are those of `paper.liif`, first seed, taken from the same `--json` file, else trained.
"""

from __future__ import annotations

import base64
import itertools
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

import surgery
from tests.benchmarks.paper import photographs
from tests.benchmarks.paper.cells import Results, loaded
from tests.benchmarks.paper.liif import EXPERIMENT, decibels, enlarged
from tests.benchmarks.plots import save
from tests.benchmarks.run import Run

Value = dict[str, Any]
TIMES, PHOTOGRAPH = 4, 1  # how much is enlarged, and which of the test photographs
TOP, LEFT, SIDE = 24, 8, 96
WIDTHS = (1.0, 0.5, 0.25, 0.125, 0.0625)


def main(run: Run) -> list[Value]:
    """Print and return a row for each picture: its PSNR (dB), of the whole photograph, and its pixels."""
    results, truth = Results(run, "liif", EXPERIMENT), photographs.photographs("test")[PHOTOGRAPH]
    side = truth.shape[1]
    small = photographs.smaller(truth, side // TIMES, side // TIMES)
    bicubic = F.interpolate(small[None], (side, side), mode="bicubic", align_corners=False)[0].clamp(0, 1)
    rows = [row("the photograph", None, truth, truth), row("bicubic", None, bicubic, truth)]
    for mode, how in EXPERIMENT.modes.items():
        if how.step == "plain":
            continue
        twin = EXPERIMENT.wrapped(loaded(EXPERIMENT, results.trained(mode, 0)["weights"]), how).eval()
        for width in WIDTHS:
            with surgery.at_widths(twin, {"*": width}):
                rows.append(row(mode, width, enlarged(twin, truth, TIMES), truth))
    for one in rows:
        print({key: value for key, value in one.items() if key != "pixels"})
    return rows


def row(name: str, width: float | None, image: Tensor, truth: Tensor) -> Value:
    part = image[:, TOP : TOP + SIDE, LEFT : LEFT + SIDE].permute(1, 2, 0)
    pixels = base64.b64encode((255 * part).round().to(torch.uint8).contiguous().numpy().tobytes()).decode()
    psnr = None if image is truth else round(decibels(image, truth), 2)
    return {"experiment": "crops", "name": name, "width": width, "dB": psnr, "pixels": pixels}


def plot(rows: list[Value], path: Path) -> None:
    """A line of pictures for each training, by width, and before it what they are to say."""
    found: dict[str, list[Value]] = {}
    for one in rows:
        found.setdefault("of width" if one["width"] is None else one["name"], []).append(one)
    given = found.pop("of width")
    figure = Figure(figsize=(1.75 * (1 + len(WIDTHS)), 2.05 * len(found)), dpi=100, layout="constrained")
    lines = figure.subplots(len(found), 1 + len(WIDTHS), squeeze=False)
    for line, (name, pictures), first in itertools.zip_longest(lines, found.items(), given):
        for axes, one in zip(line, (first, *pictures), strict=True):
            axes.set_axis_off()
            if one is not None:
                show(axes, one)
        line[1].set_title(f"{name}\n{line[1].get_title()}", fontsize=9)
    save(figure, path)


def show(axes: Any, one: Value) -> None:
    pixels = numpy.frombuffer(base64.b64decode(one["pixels"]), dtype=numpy.uint8).reshape(SIDE, SIDE, 3)
    axes.imshow(pixels, interpolation="nearest")
    name = one["name"] if one["width"] is None else f"{100 * one['width']:g} %"
    axes.set_title(name + ("" if one["dB"] is None else f", {one['dB']:.1f} dB"), fontsize=9)
