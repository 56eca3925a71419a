"""The command `surgery`: a demonstration on real data, and the plan of the user's own model."""

from __future__ import annotations

import argparse
import importlib
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn

from surgery import __version__
from surgery.curves.curve import Curve
from surgery.curves.page.report import TITLE, report
from surgery.errors import InputError, SurgeryError
from surgery.training.wrap import inspect

T = TypeVar("T")
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
INTEGERS = ("long", "int", "short", "uint8", "int8")
FLOATS = ("float", "double", "half", "bfloat16")
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
        prog="surgery", description="Train a PyTorch model once, then slice it to any width."
    )
    parser.add_argument("--version", action="version", version=f"surgery {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_inspect(commands)
    _add_report(commands)
    _add_compress(commands)
    return parser


def _add_demo(commands: Commands) -> None:
    text = "Train a small CNN and a small transformer once each on real images, and get smaller models out of them."
    demo = commands.add_parser("demo", help=text, description=text)
    demo.add_argument("--data", choices=("digits", "fashion-mnist"), default="digits", help="default: %(default)s")
    demo.add_argument("--root", type=Path, help="a folder that holds the data, instead of downloading it")
    demo.add_argument("--out", type=Path, default=Path("surgery-demo"), help="where files go; default: %(default)s")
    demo.add_argument("--epochs", type=_positive, help="passes over the training data; default: as the data needs")
    demo.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    demo.add_argument("--quick", action="store_true", help="a much shorter run, to see that everything works")
    demo.set_defaults(run=_demo)


def _add_inspect(commands: Commands) -> None:
    text = "Print which widths of a model can change, and what is fixed and why."
    command = commands.add_parser("inspect", help=text, description=text)
    command.add_argument("model", metavar="MODULE:FACTORY", help="a function without arguments that returns the model")
    command.add_argument(
        "--input", action="append", required=True, metavar="SHAPE[:DTYPE]",
        help="one positional argument of the model, such as 1,3,224,224 or 2,16:long; repeat it for more",
    )  # fmt: skip
    command.add_argument("--dtype", default="float", choices=FLOATS, help="of the model and of inputs without a dtype")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the plan to this file as well")
    command.add_argument("--full", action="store_true", help="a row for each block, also where blocks repeat")
    command.set_defaults(run=_inspect)


def _add_report(commands: Commands) -> None:
    text = "Turn the curves of a sweep into a page to explore: cost against score, limits, widths, and the Python."
    command = commands.add_parser("report", help=text, description=text)
    command.add_argument("curves", nargs="+", metavar="CURVE.json", help="written by Curve.to_json; one or several")
    command.add_argument("--out", type=Path, default=Path("report.html"), help="the page; default: %(default)s")
    command.add_argument("--title", default=TITLE, help="the heading of the page; default: %(default)s")
    command.add_argument("--score", default="score", metavar="NAME", help="what the score is called, such as accuracy")
    command.add_argument("--files", action="store_true", help="write pictures (PNG) and tables (CSV) beside the page")
    command.set_defaults(run=_report)


def _add_compress(commands: Commands) -> None:
    text = "Cut a trained model to a budget: an order, a search over all axes, a refit. No labels are needed."
    command = commands.add_parser(
        "compress", help=text, description=text,
        epilog="example: surgery compress mine:trained --batches mine:loader --budget '50%% macs' --out smaller",
    )  # fmt: skip
    command.add_argument("model", metavar="MODULE:FACTORY", help="a function without arguments: the trained model")
    command.add_argument("--batches", required=True, metavar="MODULE:LOADER", help="inputs, or a function with them")
    command.add_argument("--budget", required=True, help="such as '50%% macs', '30%% params', '2000000 bytes'")
    command.add_argument("--validate", metavar="MODULE:FUNCTION", help="scores a model; default: how like the full one")
    command.add_argument("--evaluations", type=_positive, default=40, help="models to score; default: %(default)s")
    command.add_argument(
        "--epochs", type=_positive, default=0, help="a training of the result, by the full model; default: 0"
    )
    command.add_argument("--out", type=Path, default=Path("compressed"), help="a folder; default: %(default)s")
    command.set_defaults(run=_compress)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _demo(arguments: argparse.Namespace) -> None:
    from surgery.demo.run import Options, run

    given = {name: value for name, value in vars(arguments).items() if name != "run"}
    run(Options(**given))


def _inspect(arguments: argparse.Namespace) -> None:
    dtype = getattr(torch, arguments.dtype)
    examples = tuple(example(text, dtype) for text in arguments.input)
    plan = inspect(load_model(arguments.model).to(dtype), examples)
    print(plan.table(full=arguments.full))
    if arguments.json is not None:
        _write(arguments.json, plan.to_json())


def _report(arguments: argparse.Namespace) -> None:
    curves = {name: Curve.from_json(path) for name, path in _names(arguments.curves).items()}
    written = report(curves, arguments.out, title=arguments.title, score=arguments.score, files=arguments.files)
    for path in written:
        print(f"{path} ({path.stat().st_size / 1e3:,.0f} kB)")


def _compress(arguments: argparse.Namespace) -> None:
    from surgery.recipes.compress import compress, write

    batches, validate = load(arguments.batches), arguments.validate and load(arguments.validate)
    batches = _attempt(f"calling {arguments.batches}()", batches) if callable(batches) else batches
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


def load_model(spec: str) -> nn.Module:
    """The model that `module:factory` names: the factory is called without arguments, a module is taken as it is.

    The current folder is importable. Raises InputError for a bad spec, a failed import or call, or another result.
    """
    factory = load(spec)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise InputError(f"{spec} is {type(factory).__name__}, not a function that returns a model")
    model = _attempt(f"calling {spec}()", factory)
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec}() returned {type(model).__name__}, not a torch.nn.Module")
    return model


def load(spec: str) -> Any:
    """What `module:name` names; the current folder is importable. Raises InputError where it cannot be had."""
    name, colon, path = spec.partition(":")
    if not (name and colon and path):
        raise InputError(f"{spec!r} is not MODULE:FACTORY: write for example torchvision.models:resnet18")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _attempt(f"importing {name}", lambda: importlib.import_module(name))
    return _attempt(f"looking for {path} in {name}", lambda: operator.attrgetter(path)(module))


def _attempt(doing: str, action: Callable[[], T]) -> T:
    """What the user's code gives; whatever it raises becomes a message, not a traceback."""
    try:
        return action()
    except Exception as error:
        raise InputError(f"{doing} failed: {type(error).__name__}: {error}") from error


def example(text: str, default: torch.dtype) -> torch.Tensor:
    """A tensor for `1,3,224,224` or `2,16:long`: normal noise, or zeros and ones where the dtype is not floating."""
    shape, colon, kind = text.partition(":")
    known = {name: getattr(torch, name) for name in (*FLOATS, *INTEGERS, "bool")}
    try:
        sizes = [int(size) for size in shape.split(",")]
        dtype = known[kind] if colon else default
    except (ValueError, KeyError):
        sizes, dtype = [], default
    if not sizes or min(sizes) < 1:
        raise InputError(f"--input {text!r} is not SHAPE[:DTYPE], such as 2,16:long. The dtypes are {', '.join(known)}")
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.randn(sizes, generator=generator).to(dtype)
    return torch.randint(2, sizes, generator=generator).to(dtype)
