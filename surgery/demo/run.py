"""The main job: train once, see every width, choose one, keep a plain small model."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import surgery
from surgery import Curve, Point, Section
from surgery.curves.page.words import summary
from surgery.curves.plot import figure_class
from surgery.demo.data import DATA, Data, Part
from surgery.demo.models import convnet, transformer
from surgery.demo.train import train
from surgery.errors import InputError
from surgery.modules.latency import using_threads

MARGIN = 0.02  # the score that a small model may lose on validation data
FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125)  # of every width, for the sweep
BUDGETS = (0.5, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03)  # shares of the multiply-adds, for the search
EVALUATIONS = 100  # of models, by the search
CALIBRATION = 512  # training images that BatchNorm statistics are estimated on
TIMED = 64  # images in the call that is timed
QUICK_EPOCHS, QUICK_IMAGES, QUICK_EVALUATIONS = 3, 512, 16
UNIFORM, SEARCHED = "one fraction for all widths", "a width for each layer"

HELLO = "{}: {:,} images to train on, {:,} to choose widths with, {:,} to test what was chosen."
TABLES = """
Accuracy on validation images (± one standard error), multiply-adds of one image, milliseconds for 64 images.

With {}:

{}

With {}:

{}
"""
CHOSEN = "The smallest model that loses at most {:g} points on the validation images. {}"
TESTED = (
    "On the test images, which took no part in choosing, the full model gets {:.1f} % right and the small one {:.1f} %."
)
GOODBYE = "\nOpen {} in a browser: set your own limits, and see which model fits. All of it took {:.0f} seconds."


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
        title: what people call it.
        build: makes it for images of so many pixels.
        epochs: passes over the training data, by name of the data.
        fixed: what `surgery.wrap` leaves at full width.
    """

    title: str
    build: Callable[[int], nn.Module]
    epochs: Mapping[str, int]
    fixed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The start of its files' names."""
        return self.title.lower()


JOBS = (
    Job("CNN", convnet, {"digits": 25, "fashion-mnist": 6}),
    # The number of heads follows the width, but not the width of a head: a quarter of both would be a sixteenth.
    Job("transformer", transformer, {"digits": 60, "fashion-mnist": 8}, fixed=("*.attention.qkv.o.1",)),
)


def run(options: Options) -> list[Section]:
    """Do all of it for each model; print what happens; write models, curves and a report to `options.out`.

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
    print(HELLO.format(data.name, len(data.train), len(data.validation), len(data.test)))
    with using_threads(1):  # models this small gain nothing from more, and lose much where other programs run
        sections = [demonstrate(job, data, options) for job in JOBS]
    page = options.out / "report.html"
    surgery.report(sections, page, title=f"Trained once on {data.name}, sliced to any width", files=True)
    print(GOODBYE.format(page, time.perf_counter() - start))
    return sections


def demonstrate(job: Job, data: Data, options: Options) -> Section:
    """Train one model, look for its best widths, choose some, and say what was gained."""
    part = data.train.first(QUICK_IMAGES) if options.quick else data.train
    print(f"\n== {job.title}\n\n1. Train it once, at many widths at the same time.")
    wrapped = trained(job, data.name, part, options)
    batches = part.first(CALIBRATION).images.split(128)
    curves = explored(wrapped, data.validation, part.images[:TIMED], batches, options)
    section = Section(f"{job.title} on {data.name}", curves, {"max_loss": MARGIN}, score="accuracy")
    chosen = section.curve[section.pick()]
    small = surgery.shrink(wrapped, chosen, recalibrate=batches)
    with surgery.at_widths(wrapped, 1.0):
        surgery.recalibrate(wrapped, batches)
        before = hits(wrapped, data.test).mean().item()
    notes = (told(section, curves, chosen), TESTED.format(100 * before, 100 * hits(small, data.test).mean().item()))
    print(*notes, sep="\n")
    for name, curve in zip(("uniform", "searched"), curves.values(), strict=True):
        curve.to_json(options.out / f"{job.name}-{name}.json")
    return keep(dataclasses.replace(section, notes=notes), job, part.images.shape[-1], small, options.out)


def explored(
    wrapped: nn.Module, part: Part, examples: Tensor, batches: Sequence[Tensor], options: Options
) -> dict[str, Curve]:
    """Two curves of a trained model: one fraction for all its widths, and widths that were searched one by one."""

    def validate(model: nn.Module) -> Tensor:
        return hits(model, part)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what they warn of is printed below the table
        print("2. Try it at the same fraction of every width.")
        uniform = surgery.sweep(wrapped, validate, FRACTIONS, examples=examples, recalibrate=batches)
        print("3. Search a width for each layer, within shares of the multiply-adds.")
        most = QUICK_EVALUATIONS if options.quick else EVALUATIONS
        searched = surgery.search(wrapped, validate, BUDGETS, evaluations=most, examples=examples, recalibrate=batches)
    print(TABLES.format(UNIFORM, uniform, SEARCHED, searched))
    return {UNIFORM: uniform, SEARCHED: searched}


def told(section: Section, curves: Mapping[str, Curve], chosen: Point) -> str:
    """Which point was chosen and what it keeps, and what would have been chosen without a search."""
    words = CHOSEN.format(100 * MARGIN, summary(section.curve, chosen))
    if chosen.fraction is not None:
        return f"{words} It has {chosen.fraction:.3g} of every width: the search found nothing smaller that is as good."
    uniform = curves[UNIFORM].points + curves[SEARCHED].uniform
    other = dataclasses.replace(curves[UNIFORM], points=uniform).choose(**section.limits)
    return f"{words} With one fraction for all widths it would have {other.params:,} parameters."


def trained(job: Job, name: str, part: Part, options: Options) -> nn.Module:
    """A wrapped model, trained at many widths. Everything random follows from `options.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = job.build(part.images.shape[-1])
    generator = torch.Generator().manual_seed(options.seed)
    wrapped: nn.Module = surgery.wrap(model, part.images[:1], fixed=job.fixed, generator=generator)
    epochs = options.epochs or (QUICK_EPOCHS if options.quick else job.epochs[name])
    train(wrapped, part, epochs, options.seed, f"training the {job.title}")
    return wrapped


@torch.no_grad()
def hits(model: nn.Module, part: Part) -> Tensor:
    """For each image 1 if the model is right in eval mode, else 0. Their mean is the accuracy."""
    model.eval()
    guesses = torch.cat([model(images).argmax(-1) for images in part.images.split(500)])
    return (guesses == part.labels).float()


def keep(section: Section, job: Job, pixels: int, small: nn.Module, out: Path) -> Section:
    """Write the small model, and add to the section how to load the model."""
    path = out / job.name
    surgery.save(small, path)
    print(f"It is saved as {path}.safetensors, a plain {type(small).__name__}.")
    code = (
        "import surgery, torch\n"
        f"from {job.build.__module__} import {job.build.__name__}\n\n"
        f"full = {job.build.__name__}({pixels})\n"
        f"small = surgery.load({str(path)!r}, full, torch.zeros(1, 1, {pixels}, {pixels}))\n"
    )
    return dataclasses.replace(section, load=code)
