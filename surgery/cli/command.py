"""The command `surgery`: a demonstration on real data, and the plan of the user's own model."""

from __future__ import annotations

import argparse
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import torch

from surgery import __version__
from surgery.cli.loading import FLOATS, called, example, load, load_curve, load_model
from surgery.curves.page.report import TITLE, report
from surgery.errors import InputError, SurgeryError
from surgery.training.wrap import inspect

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
COSTS = ("params", "macs", "latency", "bytes")
FACTORY = "a function without arguments that returns the model; for a file: path/to/file.py:factory"
INTERRUPTED = 130  # what shells report for Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 where the library refuses, with its message on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except SurgeryError as error:
        print(f"surgery: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("surgery: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="surgery",
        description="Train a PyTorch model once, then slice it to any width.",
        epilog="example:\n  surgery inspect torchvision.models:resnet18 --input 2,3,224,224\n\n"
        "Each command has examples of its own: surgery COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"surgery {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_demo, _add_inspect, _add_report, _add_compress):
        add(commands)
    return parser


def _command(
    commands: Commands, name: str, text: str, run: Callable[[argparse.Namespace], None], *examples: str
) -> argparse.ArgumentParser:
    """A command with its help, which ends in examples."""
    command = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example{'s' if len(examples) > 1 else ''}:\n" + "\n".join(f"  {line}" for line in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _add_demo(commands: Commands) -> None:
    text = "Train a small CNN and a small transformer once each on real images, and get smaller models out of them."
    demo = _command(
        commands, "demo", text, _demo, "surgery demo --quick", "surgery demo --data fashion-mnist --out shown"
    )
    demo.add_argument("--data", choices=("digits", "fashion-mnist"), default="digits", help="default: %(default)s")
    demo.add_argument("--root", type=Path, help="a folder that holds the data, instead of downloading it")
    demo.add_argument("--out", type=Path, default=Path("surgery-demo"), help="where files go; default: %(default)s")
    demo.add_argument("--epochs", type=_positive, help="passes over the training data; default: as the data needs")
    demo.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    demo.add_argument("--quick", action="store_true", help="a much shorter run, to see that everything works")


def _add_inspect(commands: Commands) -> None:
    text = "Print which widths of a model can change, and what is fixed and why."
    command = _command(
        commands, "inspect", text, _inspect,
        "surgery inspect torchvision.models:resnet18 --input 2,3,224,224",
        "surgery inspect nets.py:small --input 2,16:long --filter ffn --page plan.html",
    )  # fmt: skip
    command.add_argument("model", metavar="MODULE:FACTORY", help=FACTORY)
    command.add_argument(
        "--input", action="append", required=True, metavar="SHAPE[:DTYPE]",
        help="one positional argument of the model, such as 1,3,224,224 or 2,16:long; repeat it for more",
    )  # fmt: skip
    command.add_argument("--dtype", default="float", choices=FLOATS, help="of the model and of inputs without a dtype")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the plan to this file as well")
    command.add_argument("--page", type=Path, metavar="FILE", help="draw the plan as a page, such as plan.html")
    command.add_argument(
        "--filter", metavar="GLOB_OR_KIND", help="print only these: 'layers.0.*', a module path, a kind such as ffn"
    )
    command.add_argument(
        "--depth", nargs="*", metavar="GLOB",
        help="lists of modules are groups too, any of which may be left out: all of them, or those of these globs",
    )  # fmt: skip
    command.add_argument("--full", action="store_true", help="a row for each block, also where blocks repeat")


def _add_report(commands: Commands) -> None:
    text = "Turn the curves of a sweep into a page to explore: cost against score, limits, widths, and the Python."
    command = _command(
        commands, "report", text, _report,
        "surgery report curve.json --score accuracy --max-params 50% --max-loss 0.01",
        "surgery report uniform.json searched.json --out both.html --files",
    )  # fmt: skip
    command.add_argument("curves", nargs="+", metavar="CURVE.json", help="written by Curve.to_json; one or several")
    command.add_argument("--out", type=Path, default=Path("report.html"), help="the page; default: %(default)s")
    command.add_argument("--title", default=TITLE, help="the heading of the page; default: %(default)s")
    command.add_argument("--score", default="score", metavar="NAME", help="what the score is called, such as accuracy")
    command.add_argument("--files", action="store_true", help="write pictures (PNG) and tables (CSV) beside the page")
    limits = command.add_argument_group(
        "limits", "The page opens with the best model within all of these. 50% is a share of the full model."
    )
    for cost in COSTS:
        unit = ", in seconds" if cost == "latency" else ""
        limits.add_argument(f"--max-{cost}", type=_limit, metavar="N", help=f"{cost} at most{unit}, or a share")
    limits.add_argument("--min-score", type=float, metavar="SCORE", help="at least this score")
    limits.add_argument("--max-loss", type=float, metavar="LOSS", help="at most so far below the full model's score")
    limits.add_argument("--errors", type=float, metavar="N", help="how many standard errors of scores count as nothing")


def _add_compress(commands: Commands) -> None:
    text = "Cut a trained model to a budget: an order, a search over all axes, a refit. No labels are needed."
    command = _command(
        commands, "compress", text, _compress,
        "surgery compress mine:trained --batches mine:loader --budget '50% macs' --out smaller",
        "surgery compress nets.py:trained --batches nets.py:loader --budget '2000000 bytes' --epochs 5",
    )  # fmt: skip
    command.add_argument("model", metavar="MODULE:FACTORY", help=FACTORY)
    command.add_argument("--batches", required=True, metavar="MODULE:LOADER", help="inputs, or a function with them")
    command.add_argument("--budget", required=True, help="such as '50%% macs', '30%% params', '2000000 bytes'")
    command.add_argument("--validate", metavar="MODULE:FUNCTION", help="scores a model; default: how like the full one")
    command.add_argument("--evaluations", type=_positive, default=40, help="models to score; default: %(default)s")
    command.add_argument(
        "--epochs", type=_positive, default=0, help="a training of the result, by the full model; default: 0"
    )
    command.add_argument("--out", type=Path, default=Path("compressed"), help="a folder; default: %(default)s")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _limit(text: str) -> int | float | str:
    """A limit as `Curve.choose` takes it: `50%` stays a text, a whole number counts, any other one is read by it."""
    if text.rstrip().endswith("%"):
        return text
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, and no share such as 50%") from None


def _demo(arguments: argparse.Namespace) -> None:
    from surgery.demo.run import Options, run

    given = {name: value for name, value in vars(arguments).items() if name != "run"}
    run(Options(**given))


def _inspect(arguments: argparse.Namespace) -> None:
    dtype = getattr(torch, arguments.dtype)
    examples = tuple(example(text, dtype) for text in arguments.input)
    depth = False if arguments.depth is None else arguments.depth or True
    plan = inspect(load_model(arguments.model).to(dtype), examples, depth=depth)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(plan.table(full=arguments.full, only=arguments.filter, columns=columns))
    if arguments.json is not None:
        _write(arguments.json, plan.to_json())
    if arguments.page is not None:
        _told(plan.report(arguments.page))


def _report(arguments: argparse.Namespace) -> None:
    curves = {name: load_curve(path) for name, path in _names(arguments.curves).items()}
    names = (*(f"max_{cost}" for cost in COSTS), "min_score", "max_loss", "errors")
    limits = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        written = report(
            curves, arguments.out, title=arguments.title, score=arguments.score, files=arguments.files, **limits
        )
    for text in dict.fromkeys(str(warning.message) for warning in said):
        print(f"surgery: {text}", file=sys.stderr)
    for path in written:
        _told(path)


def _told(path: Path) -> None:
    print(f"{path} ({path.stat().st_size / 1e3:,.0f} kB)")


def _compress(arguments: argparse.Namespace) -> None:
    from surgery.recipes.compress import compress, write

    if arguments.out.exists() and not arguments.out.is_dir():
        raise InputError(f"--out {arguments.out} is a file: name a folder for what is written")
    batches, validate = load(arguments.batches), load(arguments.validate) if arguments.validate else None
    batches = called(arguments.batches, batches) if callable(batches) else batches
    found = compress(
        load_model(arguments.model), batches, arguments.budget, validate=validate,
        evaluations=arguments.evaluations, epochs=arguments.epochs,
    )  # fmt: skip
    print(found.curve)
    print(f"the full model scores {found.full:.4f}, the small one {found.score:.4f}")
    for path in write(found, arguments.out):
        print(path)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """The files by their names without folder and ending, or by their whole paths where these would be the same."""
    short = {Path(path).stem: path for path in paths}
    return short if len(short) == len(paths) else dict(zip(paths, paths, strict=True))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror}): name another file") from error
