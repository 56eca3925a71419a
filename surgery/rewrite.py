"""Forwards that hard-code sizes, replaced by their recording with those sizes turned into attributes.

`x.view(-1, 16 * 5 * 5)` becomes `x.view(-1, self.surgery_size_0)`. The module keeps its class, parameters and children;
only its `forward` is an instance attribute now: a `Rewritten`, which holds the generated code for eval and for training
mode, and refuses to run where the recording would not be the same program.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from surgery.capture import Branch, Capture, Frame, call_name, line
from surgery.errors import InputError
from surgery.sizes import Arithmetic, Attribute, Constant, Extent, Origin, Size, leaves

Site = tuple[fx.Node, tuple[Any, ...]]
PREFIX = "surgery_size_"


class Blocked(Exception):
    """The forward of the module at `path` cannot be replaced by its recording."""

    def __init__(self, path: str | None, reason: str):
        super().__init__(reason)
        self.path = path


@dataclass(frozen=True)
class Program:
    """Generated code of a forward, and what must hold of a call for it to be that forward."""

    source: str
    objects: Mapping[str, Any]
    leaves: tuple[tuple[tuple[Any, ...], Any], ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """Functions go by name: pickle does not find those that torch makes inside other functions."""
        named = {name: _importable(value) for name, value in self.objects.items()}
        return _program, (self.source, named, self.leaves)


@dataclass(frozen=True)
class _Imported:
    """A function, by where it is found."""

    module: str
    name: str


def _importable(value: Any) -> Any:
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    found = getattr(sys.modules.get(module or ""), name or "", None)
    return _Imported(str(module), str(name)) if callable(value) and found is value else value


def _program(source: str, objects: Mapping[str, Any], leaves: Any) -> Program:
    found = {
        name: getattr(importlib.import_module(value.module), value.name) if isinstance(value, _Imported) else value
        for name, value in objects.items()
    }
    return Program(source, found, leaves)


@dataclass(frozen=True)
class Rewrite:
    """A module's new forward: a program for each mode, and a formula for each size that became an attribute."""

    programs: Mapping[bool, Program]
    sizes: Mapping[str, Origin]


def plan_rewrites(
    captures: Sequence[Capture], sites: Mapping[Site, Origin], paths: Sequence[str | None],
    varies: Callable[[Origin], bool], alike: bool,
) -> dict[str, Rewrite]:
    """New forwards for the modules at `paths`, with the targets of `sites` in place of what the code computes.

    `alike` says that a forward without a recording in training mode is the same program there as in eval mode.
    Raises Blocked where a forward cannot be replaced.
    """
    rewrites = {}
    for path in paths:
        if path is None:
            raise Blocked(path, "its module is not registered in the model")
        sizes: dict[str, Origin] = {}
        programs: dict[bool, Program] = {}
        for capture in captures:
            for frame in capture.frames:
                if frame.path != path:
                    continue
                program = _Writer(capture, frame, sites, sizes, varies).program()
                if programs.setdefault(capture.training, program).source != program.source:
                    raise Blocked(path, "it runs differently from call to call")
        if True not in programs:
            if not alike:
                raise Blocked(path, "its training forward could not be recorded")
            programs[True] = programs[False]
        rewrites[path] = Rewrite(programs, sizes)
    return rewrites


class _Writer:
    """Writes the code of one recorded forward."""

    def __init__(
        self,
        capture: Capture,
        frame: Frame,
        sites: Mapping[Site, Origin],
        sizes: dict[str, Origin],
        varies: Callable[[Origin], bool],
    ):
        if frame.blocked:
            raise Blocked(frame.path, frame.blocked)
        self.varies = varies
        self.capture, self.frame, self.sites, self.sizes = capture, frame, sites, sizes
        self.names: dict[Any, str] = {}
        self.objects: dict[str, Any] = {}
        self.lines: list[str] = []

    def program(self) -> Program:
        given = tuple(_leaves(_bound(self.frame.module, self.frame.args, self.frame.kwargs)))
        arguments: list[str] = []
        for _, leaf in given:
            origin = leaf.origin if isinstance(leaf, Size) else leaf
            if isinstance(leaf, fx.Node | Size) and origin not in self.names:
                self.names[origin] = f"input_{len(arguments)}"
            arguments.append(f"input_{len(arguments)}")
        for item in self.frame.body:
            if isinstance(item, int):
                self._call_frame(self.capture.frames[item])
            elif isinstance(item, Branch):
                self._branch(item)
            else:
                self._node(item)
        self.lines.append(f"return {self.write(self.frame.output)}")
        header = f"def forward(self, {', '.join(arguments)}):\n"
        kinds = tuple(_kinds(given))
        return Program(header + textwrap.indent("\n".join(self.lines), "    ") + "\n", self.objects, kinds)

    def _assign(self, key: Any, code: str) -> None:
        self.names[key] = f"v{len(self.names)}"
        self.lines.append(f"{self.names[key]} = {code}")

    def _branch(self, branch: Branch) -> None:
        """The recording went one way here: where that depends on the input, other inputs must not be led along."""
        decision = branch.decision
        if self.varies(decision.left) or self.varies(decision.right):
            return  # it depends on the widths: the recorded way is the one that was analysed
        if not any(isinstance(leaf, Extent) for side in (decision.left, decision.right) for leaf in leaves(side)):
            return
        left, right = self._origin(decision.left), self._origin(decision.right)
        sign = "==" if decision.sign == "is" else decision.sign
        check = self._object("recorded_way", recorded_way)
        code = f"{check}(({left} {sign} {right}) is {decision.outcome}, {line(branch.where)!r}, {left}, {right})"
        if code not in self.lines:
            self.lines.append(code)

    def _call_frame(self, frame: Frame) -> None:
        """A child's call. What it returns is bound to the nodes that its recording ended in."""
        if frame.path is None:
            raise Blocked(self.frame.path, "it calls a module that is not registered in the model")
        arguments = [self.write(value) for value in frame.args]
        arguments += [f"{name}={self.write(value)}" for name, value in frame.kwargs.items()]
        self._assign(("call", frame.index), f"{self._module(frame.path)}({', '.join(arguments)})")
        self._unpack(frame.output, self.names["call", frame.index])

    def _unpack(self, value: Any, code: str) -> None:
        if isinstance(value, fx.Node | Size):
            self.names[value if isinstance(value, fx.Node) else value.origin] = code
        elif isinstance(value, tuple | list | dict):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                self._unpack(item, f"{code}[{key!r}]")

    def _module(self, path: str) -> str:
        prefix = f"{self.frame.path}." if self.frame.path else ""
        if path == self.frame.path:
            return "self"
        if not path.startswith(prefix):
            raise Blocked(self.frame.path, f"it uses {path}, which is not below it")
        relative = path.removeprefix(prefix)
        if all(part.isidentifier() for part in relative.split(".")):
            return f"self.{relative}"
        return f"self.get_submodule({relative!r})"

    def _tensor(self, name: str) -> str:
        owner, _, leaf = name.rpartition(".")
        return f"{self._module(owner)}.{leaf}"

    def _node(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            self._assign(node, f"{self.write(node.args[0])}[{node.args[1]!r}]")
            return
        arguments = [self.write(value, (node, (0, i))) for i, value in enumerate(node.args)]
        keywords = [f"{name}={self.write(value, (node, (1, name)))}" for name, value in node.kwargs.items()]
        if node.op == "call_module":
            self._assign(node, f"{self._module(str(node.target))}({', '.join(arguments + keywords)})")
            return
        function: Any = node.target
        name = call_name(function)
        if getattr(function, "__name__", "") == "__get__":
            self._assign(node, f"{arguments[0]}.{name}")
        elif getattr(torch.Tensor, name, None) is function:
            self._assign(node, f"{arguments[0]}.{name}({', '.join(arguments[1:] + keywords)})")
        else:
            self._assign(node, f"{self._object(name, function)}({', '.join(arguments + keywords)})")

    def _object(self, name: str, value: Any) -> str:
        name = name if name.isidentifier() else "function"
        while self.objects.get(name, value) is not value:
            name += "_"
        self.objects[name] = value
        return name

    def write(self, value: Any, site: Site | None = None) -> str:
        """An argument as code."""
        if site is not None and site in self.sites:
            return self._size(self.sites[site])
        if isinstance(value, fx.Node):
            return self._use(value)
        if isinstance(value, Size):
            return self._origin(value.origin)
        nested = (lambda key: None) if site is None else (lambda key: (site[0], (*site[1], key)))
        if isinstance(value, slice):
            return f"slice({', '.join(self.write(getattr(value, e), nested(e)) for e in ('start', 'stop', 'step'))})"
        if isinstance(value, tuple | list):
            items = [self.write(item, nested(i)) for i, item in enumerate(value)]
            return (
                f"({', '.join(items)}{',' if items else ''})" if isinstance(value, tuple) else f"[{', '.join(items)}]"
            )
        if isinstance(value, dict):
            return f"{{{', '.join(f'{key!r}: {self.write(item, nested(key))}' for key, item in value.items())}}}"
        if value is None or value is Ellipsis or isinstance(value, bool | str | int):
            return repr(value)
        if isinstance(value, float) and value == value and abs(value) != float("inf"):
            return repr(value)
        if isinstance(value, float | torch.dtype | torch.device | torch.memory_format | torch.layout):
            return self._object(f"constant_{len(self.objects)}", value)
        raise Blocked(self.frame.path, f"it passes a {type(value).__name__} on")

    def _use(self, node: fx.Node) -> str:
        if node in self.names:
            return self.names[node]
        if node.op == "get_attr":
            return self._tensor(str(node.target))
        raise Blocked(self.frame.path, "it uses a tensor that reached it outside its arguments")

    def _size(self, target: Origin) -> str:
        for name, known in self.sizes.items():
            if known == target:
                return f"self.{name}"
        name = f"{PREFIX}{len(self.sizes)}"
        self.sizes[name] = target
        return f"self.{name}"

    def _origin(self, origin: Origin) -> str:
        """Code that computes a size again, from the arguments of this forward."""
        if origin in self.names:
            return self.names[origin]
        if isinstance(origin, Extent):
            return f"{self._use(origin.node)}.shape[{origin.dim}]"
        if isinstance(origin, Attribute):
            keys = "".join(f"[{key!r}]" for key in origin.path[1:])
            return f"{self._module(origin.module)}.{origin.path[0]}{keys}"
        if isinstance(origin, Arithmetic):
            return f"({self._origin(origin.left)} {origin.sign} {self._origin(origin.right)})"
        assert isinstance(origin, Constant)
        return repr(origin.value)


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = _signature(type(module)).bind(module, *args, **kwargs)
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def _signature(cls: type[nn.Module]) -> inspect.Signature:
    return inspect.signature(cls.forward)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The leaves of nested arguments, with their places."""
    if isinstance(value, dict | tuple | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield path, value


def _kinds(given: Sequence[Any]) -> Iterator[Any]:
    """What each argument must be; one tensor that was given twice must be given twice again."""
    first: dict[Any, int] = {}
    for i, (path, leaf) in enumerate(given):
        same = first.setdefault(leaf, i) if isinstance(leaf, fx.Node) else i
        yield path, _kind(leaf) if same == i else ("same", given[same][0], same)


def _kind(leaf: Any) -> Any:
    """What must be the same in a later call: a tensor, an integer that may vary, or exactly this value."""
    if isinstance(leaf, fx.Node | torch.Tensor):
        return "tensor"
    if isinstance(leaf, Size):
        return "size"
    return ("is", leaf)


def recorded_way(same: bool, where: str, *sizes: int) -> None:
    """Raise InputError where a rewritten forward would have gone another way in the code that it was made from."""
    if not same:
        raise InputError(
            f"the code at {where} depends on the size of its input ({' against '.join(map(str, sizes))}), and its "
            "forward was rewritten for the way that the example inputs take. Wrap the model with inputs of this size"
        )


class Rewritten:
    """A module's forward, regenerated from its recording; picklable, and copied together with its module."""

    def __init__(self, owner: nn.Module, programs: Mapping[bool, Program]):
        self.owner = owner
        self.programs = dict(programs)
        self.__name__ = "forward"
        self.__signature__ = inspect.signature(type(owner).forward.__get__(owner))
        self._compiled = {mode: _compile(program) for mode, program in programs.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode = self.owner.training
        given = list(_leaves(_bound(self.owner, args, kwargs)))
        expected = self.programs[mode].leaves
        if not _fits(given, expected):
            raise InputError(
                f"the forward of {type(self.owner).__name__} was rewritten from a run with other arguments: it was "
                f"recorded with {_readable(expected)}, and called with "
                f"{_readable([(path, _kind(leaf)) for path, leaf in given])}. "
                "Wrap the model with example inputs of this kind, or surgery.batches of both."
            )
        return self._compiled[mode](self.owner, *(leaf for _, leaf in given))

    @property
    def __code__(self) -> Any:
        """What `torch.export` asks of a forward."""
        return type(self).__call__.__code__

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self),), {"owner": self.owner, "programs": self.programs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.owner, self.programs = state["owner"], state["programs"]
        self.__signature__ = inspect.signature(type(self.owner).forward.__get__(self.owner))
        self.__name__ = "forward"
        self._compiled = {mode: _compile(program) for mode, program in self.programs.items()}


def _restore(cls: type[Rewritten]) -> Rewritten:
    return cls.__new__(cls)


def _fits(given: list[Any], expected: Sequence[Any]) -> bool:
    if [path for path, _ in given] != [path for path, _ in expected]:
        return False
    for (_, leaf), (_, kind) in zip(given, expected, strict=True):
        if isinstance(kind, tuple) and kind[0] == "same":
            if leaf is not given[kind[2]][1]:
                return False
            continue
        if kind == "tensor" and not isinstance(leaf, torch.Tensor):
            return False
        if kind == "size" and (isinstance(leaf, torch.Tensor) or not isinstance(leaf, int)):
            return False
        if isinstance(kind, tuple) and (isinstance(leaf, torch.Tensor) or leaf != kind[1]):
            return False
    return True


def _readable(kinds: Sequence[tuple[tuple[Any, ...], Any]]) -> str:
    parts = []
    for path, kind in kinds:
        name = ".".join(map(str, path))
        if isinstance(kind, tuple):
            value = f"the tensor {'.'.join(map(str, kind[1]))} again" if kind[0] == "same" else repr(kind[1])
            parts.append(f"{name}={value}")
        else:
            parts.append(f"{name}: {kind}")
    return f"({', '.join(parts)})"


def _compile(program: Program) -> Any:
    scope = dict(program.objects)
    exec(compile(program.source, "<rewritten forward>", "exec"), scope)
    return scope["forward"]
