"""Forwards that were rewritten, as plain methods of a subclass, with their sizes as numbers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import nn

from surgery.errors import InputError
from surgery.exporting.code import Mangled, Replaced, WithoutSuper, assigned_outside, unannotated
from surgery.exporting.homes import importable
from surgery.exporting.layout import flat
from surgery.exporting.values import Values
from surgery.modules.code.rewritten import SEEN, SIZE, Method, Rewritten, Routine, followed

HELPERS = {f"surgery_{kind}": f"_{kind}" for kind in ("sized", "scaled", "inside", "agree", "meet", "changed")}


@dataclass(frozen=True)
class New:
    """A method of a module with its sizes: its own code, what the module's class has there, and the numbers."""

    routine: Routine
    plain: FunctionType
    sizes: tuple[tuple[str, int], ...]


def is_size(name: str) -> bool:
    """Whether an attribute of a module holds a size of a rewritten forward."""
    return name.startswith((SEEN, SIZE))


def methods_of(module: nn.Module) -> dict[str, New]:
    """The methods of a small model's module that are not those of its class."""
    found = {}
    for name, value in vars(module).items():
        if isinstance(value, Rewritten):
            sizes = tuple((key, size) for key, size in vars(value.owner).items() if is_size(key))
            plain: Any = value.plain.__func__ if isinstance(value, Method) else getattr(type(module), name)
            found[name] = New(value.routine, plain, sizes)
    return found


class Forwards:
    """The subclasses and functions of a written module that hold sizes. What is alike is there once."""

    def __init__(self, values: Values):
        self.values = values
        self.parts: list[str] = []
        self._classes: dict[tuple[object, ...], str] = {}
        self._functions: dict[tuple[object, ...], str] = {}

    def subclass(self, cls: type[nn.Module], methods: Mapping[str, New], where: str) -> str:
        """The name of a class below `cls` that has these methods."""
        key = (cls, *methods.items())
        if key not in self._classes:
            base = self.values.written.reference(cls, where)
            name = self.values.names.unique(cls.__name__)
            note = f'    """`{base}` with numbers in place of sizes that its code computes for other widths."""'
            bodies = [_indented(self._method(cls, one, methods, where)) for one in methods]
            self.parts.append("\n\n".join([f"class {name}({base}):\n{note}", *bodies]))
            self._classes[key] = name
        return self._classes[key]

    def _method(self, cls: type, name: str, methods: Mapping[str, New], where: str) -> str:
        new = methods[name]
        tree, free = self._tree(new, f"{where}.{name}", {one.routine: key for key, one in methods.items()})
        if not free:
            tree.name = name
            return ast.unparse(tree)
        holder = next(base for base in cls.__mro__ if vars(base).get(name) is new.plain)
        plain = f"{self.values.written.reference(holder, where)}.{name}"
        return f"{name} = {self.values.helper('_closed')}({self._maker(tree, free)}, {free!r}, {plain})"

    def _function(self, new: New, where: str) -> str:
        """An expression for a function with its sizes, or for what makes it of what the original has closed over."""
        key = (new.plain, new.routine, new.sizes)
        if key not in self._functions:
            tree, free = self._tree(new, where, {})
            if free:
                self._functions[key] = f"({self._maker(tree, free)}, {free!r})"
            else:
                tree.name = self._functions[key] = self.values.names.unique(_plain_name(new.routine.text.name))
                self.parts.append(ast.unparse(tree))
        return self._functions[key]

    def _maker(self, tree: ast.FunctionDef, free: tuple[str, ...]) -> str:
        maker = self.values.names.unique(f"_make_{tree.name}")
        self.parts.append(f"def {maker}({', '.join(free)}):\n{_indented(ast.unparse(tree))}\n    return {tree.name}")
        return maker

    def _tree(self, new: New, where: str, methods: Mapping[Routine, str]) -> tuple[ast.FunctionDef, tuple[str, ...]]:
        """A function with its sizes, in the names of the written module; and what it has closed over."""
        text, sizes = new.routine.text, dict(new.sizes)
        ours = dict(HELPERS)  # names that stand for expressions of the written module until others have got theirs

        def call(number: int, node: ast.Call) -> None:
            routines = new.routine.calls[number][1]
            if not _is_method(node, routines, _first(text.tree()), methods):
                ours[f"surgery_known_{number}"] = self._known(routines, new, where)
                known = ast.Name(f"surgery_known_{number}", ast.Load())
                node.func = ast.Call(ast.Name("surgery_changed", ast.Load()), [node.func, known], [])

        function = _as_function(new.routine.changed(text.tree(), lambda name: ast.Constant(sizes[name]), call))
        self._give_defaults(function, new.plain, ours, where)
        assigned = assigned_outside(function)
        if assigned is not None:
            raise InputError(f"{where}: its code assigns {assigned} outside of itself, which cannot be written out")
        if text.owner:
            Mangled(text.owner).visit(function)
        cells = dict(zip(new.plain.__code__.co_freevars, new.plain.__closure__ or (), strict=True))
        if "__class__" in cells:
            ours["surgery_class"] = self.values.written.reference(cells.pop("__class__").cell_contents, where)
            WithoutSuper("surgery_class").visit(function)
        origin = new.plain.__globals__.get("__name__", "")
        self.values.written.renamed(function, new.plain.__globals__, origin, where, {*ours, *cells})
        self._take_helpers(function)
        return ast.fix_missing_locations(Replaced(ours).visit(function)), tuple(cells)

    def _give_defaults(self, function: ast.FunctionDef, plain: FunctionType, ours: dict[str, str], where: str) -> None:
        """Let a function have the defaults that the original has, whatever they were computed from."""
        told = plain.__kwdefaults__ or {}
        given = [*(plain.__defaults__ or ()), *told.values()]
        names = [ast.Name(f"surgery_default_{number}", ast.Load()) for number in range(len(given))]
        for name, value in zip(names, given, strict=True):
            ours[name.id] = flat(self.values.constant(value, f"a default of {where}"))
        named = dict(zip(told, names[len(given) - len(told) :], strict=True))
        function.args.defaults = [*names[: len(given) - len(told)]]
        function.args.kw_defaults = [named.get(argument.arg) for argument in function.args.kwonlyargs]

    def _take_helpers(self, function: ast.FunctionDef) -> None:
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id in HELPERS:
                self.values.helper(HELPERS[node.id])

    def _known(self, routines: tuple[Routine, ...], new: New, where: str) -> str:
        """A dict of the functions that may be called, by module and name, as they are with the sizes of this module."""
        ran = {routine: plain for plain, routine in followed(routines)}
        known = []
        for routine in routines:
            plain = ran.get(routine) or _in_modules(routine)
            if plain is None:
                raise InputError(
                    f"{where} calls {routine.text.name}, whose sizes follow, and no example input led there: give one "
                    "that does (surgery.batches([...]) of several)"
                )
            made = self._function(New(routine, plain, new.sizes), where)
            known.append(f"{self._key(plain, where)!r}: {made}")
        return f"{{{', '.join(known)}}}"

    def _key(self, plain: FunctionType, where: str) -> str:
        """A function's module and its name there, as it is in another process: nothing for the written module."""
        module, name = plain.__globals__["__name__"], plain.__code__.co_qualname
        if importable(module):
            return f"{module}:{name}"
        top, dot, rest = name.partition(".")
        return f":{self.values.written.reference(plain.__globals__.get(top), where)}{dot}{rest}"


def _is_method(node: ast.Call, routines: tuple[Routine, ...], first: str, methods: Mapping[Routine, str]) -> bool:
    """Whether a call is one of a method that the same subclass has with its sizes."""
    name = methods.get(routines[0]) if len(routines) == 1 else None
    return name is not None and ast.unparse(node.func) == f"{first}.{name}"


def _first(tree: ast.FunctionDef | ast.Lambda) -> str:
    arguments = [*tree.args.posonlyargs, *tree.args.args]
    return arguments[0].arg if arguments else ""


def _as_function(tree: ast.FunctionDef | ast.Lambda) -> ast.FunctionDef:
    """A definition without annotations, also of what was none."""
    if isinstance(tree, ast.Lambda):
        tree = ast.FunctionDef("function", tree.args, [ast.Return(tree.body)], [])
    return ast.fix_missing_locations(unannotated(tree))


def _plain_name(qualified: str) -> str:
    """What the sized form of a function is called: `Processor.__call__` becomes `Processor_call`."""
    parts = [part.strip("_<>") for part in qualified.split(".") if part != "<locals>"]
    return "_".join(parts[-2:])


def _in_modules(routine: Routine) -> FunctionType | None:
    """The function of a routine, where a module that is here has it under its name."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == routine.text.file:
            value: Any = module
            for part in routine.text.name.split("."):
                value = getattr(value, part, None)
            if isinstance(value, FunctionType):
                return value
    return None


def _indented(source: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in source.splitlines())
