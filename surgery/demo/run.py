"""The main job: train once, see every width, choose one, keep a plain small model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import surgery
from surgery.demo.data import DATA, Data, Part
from surgery.demo.models import convnet, transformer
from surgery.demo.train import train
from surgery.errors import InputError
from surgery.latency import using_threads
from surgery.plot import figure_class
from surgery.report import Section, summary

MARGIN = 0.02  # the score that a small model may lose on validation data
CALIBRATION = 1024  # training images that BatchNorm statistics are estimated on
TIMED = 64  # images in the call that is timed
QUICK_EPOCHS, QUICK_IMAGES = 3, 512


@dataclass(frozen=True)
class Options:
    """What to run. `epochs` None means as many as the data and the model need."""

    data: str = "digits"
    root: Path | None = None
    out: Path = Path("surgery-demo")
    epochs: int | None = None
    seed: int = 0
    quick: bool = False


@dataclass(frozen=True)
class Job:
    """One model of the demonstration.

    Attributes:
        title: what people call it, and the start of its files' names.
        build: makes it for images of so many pixels.
        epochs: passes over the training data, by name of the data.
        fixed: what `surgery.wrap` leaves at full width.
    """

    title: str
    build: Callable[[int], nn.Module]
    epochs: Mapping[str, int]
    fixed: tuple[str, ...] = ()


JOBS = (
    Job("CNN", convnet, {"digits": 25, "fashion-mnist": 6}),
    # The number of heads follows the width, but not the width of a head: a quarter of both would be a sixteenth.
    Job("transformer", transformer, {"digits": 60, "fashion-mnist": 8}, fixed=("*.attention.qkv.o.1",)),
)


def run(options: Options) -> list[Section]:
    """Do all of it for each model; print what happens; write models, tables, pictures and a report to `options.out`.

    Widths are chosen on validation data; the test data is used for the full model and the chosen one only.

    Raises:
        InputError: a package is missing, the data cannot be had, or `out` cannot be made.
    """
    start = time.perf_counter()
    figure_class()  # without matplotlib, fail here rather than after training
    data = DATA[options.data](options.root)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {options.out}: cannot be made ({error.strerror}): name another folder") from error
    counts = "{:,} images to train on, {:,} to choose with, {:,} to report on"
    print(f"{data.name}:", counts.format(len(data.train), len(data.validation), len(data.test)))
    with using_threads(1):  # models this small gain nothing from more, and lose much where other programs run
        sections = [demonstrate(job, data, options) for job in JOBS]
    page = options.out / "report.html"
    surgery.report(sections, page, title=f"Trained once on {data.name}, sliced to any width")
    print(f"\nEverything is in {options.out}: see report.html. It took {time.perf_counter() - start:.0f} seconds.")
    return sections


def demonstrate(job: Job, data: Data, options: Options) -> Section:
    """Train one model, sweep its widths, choose one, and say what was gained."""
    part = data.train.first(QUICK_IMAGES) if options.quick else data.train
    wrapped = trained(job, data.name, part, options)
    calibration = part.first(CALIBRATION).images.split(128)

    def validate(model: nn.Module, part: Part = data.validation) -> float:
        surgery.recalibrate(model, calibration)
        return accuracy(model, part)

    curve = surgery.sweep(wrapped, validate, examples=part.images[:TIMED])
    limits = {"min_score": curve[0].score - MARGIN}
    chosen = curve.choose(**limits)
    small = surgery.shrink(wrapped, chosen)
    after = validate(small, data.test)
    with surgery.at_widths(wrapped, 1.0):
        before = validate(wrapped, data.test)
    note = (
        f"On the test images, which took no part in choosing, the full model gets {100 * before:.1f} % right "
        f"and the small one {100 * after:.1f} %."
    )
    section = Section(f"{job.title} on {data.name}", {"": curve}, limits, score="accuracy", notes=(note,))
    return keep(section, job, part.images.shape[-1], small, options.out)


def trained(job: Job, name: str, part: Part, options: Options) -> nn.Module:
    """A wrapped model, trained at many widths. Everything random follows from `options.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = job.build(part.images.shape[-1])
    draw = surgery.shared(p=1.0, lower=1 / 16)
    generator = torch.Generator().manual_seed(options.seed)
    wrapped = surgery.wrap(model, part.images[:1], fixed=job.fixed, draw=draw, generator=generator)
    epochs = options.epochs or (QUICK_EPOCHS if options.quick else job.epochs[name])
    print()
    train(wrapped, part, epochs, options.seed, f"training the {job.title} once")
    return wrapped


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    """The share of images that a model gets right in eval mode."""
    model.eval()
    guesses = torch.cat([model(images).argmax(-1) for images in part.images.split(500)])
    return (guesses == part.labels).float().mean().item()


def keep(section: Section, job: Job, pixels: int, small: nn.Module, out: Path) -> Section:
    """Write the small model and its curve, print what a person wants to know, and add how to load the model."""
    path = out / job.title.lower()
    surgery.save(small, path)
    section.curve.to_csv(f"{path}-curve.csv")
    chosen = section.curve[section.pick()]
    section.curve.plot(f"{path}-curve.png", chosen=chosen)
    print(f"\n{section.title}, scores on validation images, MACs of one image, time of {TIMED}:\n\n{section.curve}\n")
    print(f"The smallest within {100 * MARGIN:g} points of the full one is row {section.pick()}.")
    print(summary(section.curve, chosen))
    print(*section.notes, f"It is saved as {path}.safetensors, a plain {type(small).__name__}.")
    code = (
        "import surgery, torch\n"
        f"from {job.build.__module__} import {job.build.__name__}\n\n"
        f"full = {job.build.__name__}({pixels})\n"
        f"small = surgery.load({str(path)!r}, full, torch.zeros(1, 1, {pixels}, {pixels}))\n"
    )
    return dataclasses.replace(section, load=code)
