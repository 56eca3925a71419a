"""The rooms of the library: what each may import, no circles, no module behind a function, how long things are."""

from __future__ import annotations

import ast
import graphlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom up. A room may import itself and what its line says; docs/design.md tells why.
MAY = {
    "errors": "",
    "nested": "",
    "html": "errors",
    "axes": "errors",
    "modules": "errors nested axes",
    "rules": "errors nested axes",
    "adapters": "errors nested axes",
    "plan": "errors html axes modules",
    "configs": "nested axes modules plan",
    "twin": "errors axes modules adapters plan",
    "capture": "errors nested axes modules rules adapters",
    "planning": "errors nested axes modules rules adapters plan configs twin capture",
    "training": "errors modules plan twin planning",
    "refitting": "errors axes modules adapters plan twin",
    "shrinking": "errors axes modules adapters plan configs twin planning refitting",
    "exporting": "errors modules twin shrinking",
    "curves": "errors html",
    "measuring": "errors modules plan twin refitting shrinking curves",
    "surgery": "errors modules rules adapters plan twin planning training refitting shrinking exporting "
    "curves measuring",
    "demo": "errors modules curves surgery",
    "integrations": "errors training surgery",
    "recipes": "surgery",
    "cli": "errors training curves surgery demo recipes",
    "__main__": "cli",
}

# Where a room is known by some of its modules only.
DOORS = {
    ("modules", "axes"): {"surgery.axes.formulas"},  # the steps of a path
    ("plan", "modules"): {  # a new forward is part of a plan; what is spread over ranks is cut whole
        "surgery.modules.code.rewritten",
        "surgery.modules.sharded",
    },
    ("configs", "plan"): {"surgery.plan.units"},  # which modules are there
    ("twin", "axes"): {"surgery.axes.formulas", "surgery.axes.layout"},
    ("measuring", "refitting"): {"surgery.refitting.statistics"},
    ("refitting", "axes"): {"surgery.axes.layout"},
    ("refitting", "adapters"): {"surgery.adapters.plain_attention"},  # torch's own hides its last layer
    ("twin", "adapters"): {"surgery.adapters.base"},  # what containers decide is decided again
    ("capture", "rules"): {"surgery.rules.registry"},
    ("capture", "adapters"): {"surgery.adapters.base"},
    ("training", "planning"): {"surgery.planning.make", "surgery.planning.supported"},
    ("shrinking", "planning"): {"surgery.planning.make", "surgery.planning.supported"},
    ("exporting", "twin"): {"surgery.twin.elastic"},
    ("exporting", "shrinking"): {"surgery.shrinking.record"},
    ("measuring", "shrinking"): {"surgery.shrinking.shrink"},
    ("demo", "modules"): {"surgery.modules.latency"},
    ("integrations", "training"): {"surgery.training.step"},  # the wrapped model inside of what trainers hold
}

# Nevers inside of a room, and of what is not the library's: prefixes of modules, and of what they import.
NEVERS = [
    ("surgery.axes", "torch.nn"),
    ("surgery.curves", "torch.nn"),
    ("surgery.html", "torch"),
    ("surgery.curves.page", "surgery.curves.curve"),  # Curve has the page as a method
    ("surgery.plan.page", "surgery.plan.plan"),  # and so has Plan
    ("surgery.modules.code", "surgery.modules.copying"),
    ("surgery.planning.solving", "surgery.planning.conformance"),
    ("surgery.planning.conformance", "surgery.planning.solving"),
    ("surgery.planning.conformance", "surgery.plan"),
    ("surgery.planning.listed", "surgery.planning.analysis"),
    ("surgery.planning.listed", "surgery.twin"),
    ("surgery.planning.experts", "surgery.twin"),
    ("surgery.exporting.probe", "surgery"),  # a script, which runs where the library is not
    ("surgery.exporting.helpers", "surgery"),  # what is copied must need no part of the library
    ("surgery.demo.models", "surgery"),  # ordinary models, which know nothing of the library
]

INTEGRATED = {"transformers", "lightning"}  # what modules of integrations import, and the library needs not
FILES_AT_THE_TOP = 6
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 300, 40  # docstrings of functions do not count
LONGER: dict[str, str] = {}  # exceptions, each with its reason


def _modules() -> dict[str, Path]:
    """Every file of the library, by the name that it is imported as."""
    found = {}
    for name, place in {"surgery": ROOT / "surgery", "surgery.adapters": ROOT / "adapters"}.items():
        for file in place.rglob("*.py"):
            parts = file.relative_to(place).with_suffix("").parts
            if name == "surgery" and parts[0] == "adapters":  # the link to the other folder
                continue
            found[".".join([name, *(part for part in parts if part != "__init__")])] = file
    return found


MODULES = _modules()
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}


def imported(name: str) -> Iterator[str]:
    """What a module imports, wherever in it and whatever for: names of the library's modules, and of others' names."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{name}: a relative import"
            for full in (f"{node.module}.{alias.name}" for alias in node.names):
                yield node.module if node.module in MODULES and full not in MODULES else full


IMPORTS = {name: {other for other in imported(name) if other != name} for name in MODULES}


def room(name: str) -> str:
    """`axes` for `surgery.axes.layout`; `surgery` for the package itself, which has the public names."""
    return name.split(".")[1] if "." in name else name


def test_each_room_is_in_the_table_above_what_it_may_import():
    assert {room(name) for name in MODULES} == set(MAY)
    below: set[str] = set()
    for name, allowed in MAY.items():
        assert set(allowed.split()) <= below, name
        below.add(name)


@pytest.mark.parametrize("name", MAY)
def test_a_room_imports_what_it_may(name):
    wrong = {
        f"{module} imports {other}"
        for module in MODULES
        for other in IMPORTS[module] & MODULES.keys()
        if room(module) == name != room(other)
        and (room(other) not in MAY[name].split() or other not in DOORS.get((name, room(other)), {other}))
    }
    assert not wrong


@pytest.mark.parametrize("inside, never", NEVERS)
def test_what_is_never_imported(inside, never):
    def within(name: str, prefix: str) -> bool:
        return f"{name}.".startswith(f"{prefix}.")

    users = [module for module in MODULES if within(module, inside)]
    assert users
    assert not [(module, other) for module in users for other in IMPORTS[module] if within(other, never)]


def test_every_permission_is_used():
    used = {(room(module), room(other)) for module in MODULES for other in IMPORTS[module] & MODULES.keys()}
    assert {(name, other) for name, allowed in MAY.items() for other in allowed.split()} <= used
    assert set(DOORS) <= used


def test_no_circles():
    """Of modules, imports for types alone included; a package's own imports count as those of the package."""
    graphlib.TopologicalSorter({name: IMPORTS[name] & MODULES.keys() for name in MODULES}).prepare()


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"surgery.__main__"}))
def test_no_module_is_hidden_by_what_it_defines(name):
    if name.startswith("surgery.integrations."):
        for other in {other.split(".")[0] for other in IMPORTS[name]} & INTEGRATED:
            pytest.importorskip(other, reason=f"{other} is not installed")
    module = importlib.import_module(name)
    package, _, leaf = name.rpartition(".")
    assert module is sys.modules[name]
    assert not package or vars(sys.modules[package])[leaf] is module


def test_a_room_says_what_it_never_imports():
    packages = [name for name, file in MODULES.items() if file.name == "__init__.py"]
    without = {name for name in packages if "Never" not in (ast.get_docstring(TREES[name]) or "")}
    assert without <= {"surgery", "surgery.adapters", "surgery.demo"}


def test_nothing_is_too_long():
    files = [file for file in (ROOT / "surgery").iterdir() if file.is_file()]
    assert len(files) <= FILES_AT_THE_TOP, files
    long = {name for name, file in MODULES.items() if _count(file.read_text(encoding="utf-8")) > LINES_OF_A_FILE}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and _length(node) > LINES_OF_A_FUNCTION:
                long.add(f"{name}.{node.name}")
    assert long == set(LONGER)


def _count(text: str) -> int:
    return len(text.splitlines())


def _length(node: ast.FunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1 - (_count(ast.get_docstring(node) or ""))
