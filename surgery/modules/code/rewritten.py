"""A function of a model's code in which some sizes come from the module: compiled from its source, and picklable.

`x.view(-1, 16 * 5 * 5)` becomes `x.view(-1, self.surgery_size_0)`, and `x.reshape(b, n, c)` becomes
`x.reshape(b, n, surgery_sized(c, self.surgery_seen_0, self.surgery_size_0))`: where the code computes what it computed
when the model was analysed, the size that fits the widths stands in for it; where it computes something else, it says
so. All other code is the model's own.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

from surgery.axes.formulas import Steps
from surgery.errors import InputError
from surgery.modules.code.helpers import HELPERS
from surgery.modules.code.source import Definition, NoSource, Span, Text, at, expression, text
from surgery.modules.code.untraced import INSTEAD, OnlyOfClasses

SIZE, SEEN = "surgery_size_", "surgery_seen_"
MODULE = "surgery_module"  # the argument by which a function that is no method of the module is given it
CALL = "surgery_call_"
STANDS_FOR = "surgery_stands_for"  # names the function that another one is called in place of, while a run is recorded


@dataclass(frozen=True)
class Edit:
    """One size in the source of a function: it stands in an expression, at a route in its syntax tree.

    `inside` goes on into the value there, where that is a whole tuple. A comparison has no route: it must come out as
    it did, `equal` or not. With `scales`, the size also counts something that changes with the input, and is changed in
    proportion.
    """

    where: Span
    route: tuple[str | int, ...]
    inside: Steps
    number: int
    scales: bool
    equal: bool = True


@dataclass(frozen=True)
class Routine:
    """A function, the sizes in it, and where it calls other functions that hold sizes."""

    text: Text
    edits: tuple[Edit, ...] = ()
    calls: tuple[tuple[Span, tuple[Routine, ...]], ...] = ()

    def tree(self, root: bool) -> Definition:
        """The changed syntax tree."""
        tree = self.text.tree()
        module = _first_argument(tree) if root else None
        if module is None:
            module = MODULE
            tree.args.kwonlyargs.append(ast.arg(MODULE))
            tree.args.kw_defaults.append(ast.Constant(None))
        name = ast.Name(module, ast.Load())

        def call(number: int, node: ast.Call) -> None:
            node.func = _call(f"{CALL}{number}", node.func)
            node.keywords.append(ast.keyword(MODULE, name))

        return self.changed(tree, lambda attribute: ast.Attribute(name, attribute, ast.Load()), call)

    def changed(
        self, tree: Definition, size: Callable[[str], ast.expr], call: Callable[[int, ast.Call], None]
    ) -> Definition:
        """The syntax tree of the function, changed in place.

        Args:
            tree: as `text.tree()` gives it.
            size: what stands for the size that an attribute of the module holds, told by its name.
            call: changes the call with this number, which is one of a function that holds sizes.
        """
        edited = [(edit, expression(tree, edit.where)) for edit in self.edits]
        called = [(number, expression(tree, where)) for number, (where, _) in enumerate(self.calls)]
        for edit, node in edited:
            assert node is not None
            _apply(edit, node, size)
        for number, node in called:
            assert isinstance(node, ast.Call)
            call(number, node)
        return ast.fix_missing_locations(tree)

    def source(self, root: bool = True) -> str:
        """The changed source, and that of the functions it calls."""
        below = [routine.source(False) for _, routines in self.calls for routine in routines]
        return "\n\n".join([ast.unparse(self.tree(root)), *below])

    def function(self, plain: object, root: bool = False) -> FunctionType:
        """The changed function in place of `plain`. Raises InputError where that has another source by now."""
        if not isinstance(plain, FunctionType) or not _is(self.text, plain):
            raise InputError(
                f"the source of {self.text.name} is not the one that this model was rewritten from: "
                "wrap or shrink the model again"
            )
        code = _compiled(self, root)
        cells = dict(zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True))
        for name, value in HELPERS.items():
            cells[name] = CellType(value)
        for number, (_, routines) in enumerate(self.calls):
            cells[f"{CALL}{number}"] = CellType(_redirect(routines))
        closure = tuple(cells[name] for name in code.co_freevars)
        made = FunctionType(code, plain.__globals__, plain.__name__, plain.__defaults__, closure)
        made.__kwdefaults__ = (plain.__kwdefaults__ or {}) | {MODULE: None}
        made.__qualname__, made.__module__, made.__doc__ = plain.__qualname__, plain.__module__, plain.__doc__
        return made


@functools.lru_cache(maxsize=1024)
def _compiled(routine: Routine, root: bool) -> CodeType:
    names = [*HELPERS, *(f"{CALL}{number}" for number in range(len(routine.calls)))]
    return routine.text.compile(routine.tree(root), names)


def _is(known: Text, plain: object) -> bool:
    if not isinstance(plain, FunctionType) or plain.__code__.co_qualname != known.name:
        return False
    try:
        return text(plain.__code__).source == known.source
    except NoSource:  # where a model is loaded without its source, the name and what it closes over must do
        return plain.__code__.co_freevars == known.free


def _first_argument(tree: Definition) -> str | None:
    arguments = [*tree.args.posonlyargs, *tree.args.args]
    return arguments[0].arg if arguments else None


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _apply(edit: Edit, node: ast.expr, size: Callable[[str], ast.expr]) -> None:
    """Put the size into the expression, in place."""
    seen, now = (size(f"{kind}{edit.number}") for kind in (SEEN, SIZE))
    if isinstance(node, ast.Compare):
        helper = "surgery_agree" if edit.equal else "surgery_meet"
        node.left = _call(helper, node.left, node.comparators[0], seen, now)
        node.comparators = [ast.Constant(True)]
        return
    *way, last = edit.route
    parent = at(node, way)
    old = at(parent, [last])
    how = "surgery_scaled" if edit.scales else "surgery_sized"
    new: ast.expr
    if edit.inside:
        inside = ast.parse(repr(edit.inside), mode="eval").body
        new = _call("surgery_inside", old, inside, ast.Name(how, ast.Load()), seen, now)
    elif is_literal(old):
        new = now
    else:
        new = _call(how, old, seen, now)
    ast.copy_location(new, old)
    if isinstance(last, int):
        parent[last] = new
    else:
        setattr(parent, last, new)


def is_literal(tree: ast.expr) -> bool:
    """Whether an expression is a number that is written out, such as `16 * 5 * 5`."""
    parts = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    return all(isinstance(node, parts) for node in ast.walk(tree))


class Redirect:
    """Stands where a changed function calls another: it gives the changed form of the function that is called."""

    def __init__(self, routines: tuple[Routine, ...]):
        self.routines = routines
        self.known: list[tuple[object, FunctionType]] = []

    def __call__(self, function: Callable[..., object]) -> Callable[..., object]:
        plain = function.__func__ if isinstance(function, MethodType) else function
        for known, changed in self.known:
            if known is plain:
                return functools.partial(changed, function.__self__) if isinstance(function, MethodType) else changed
        return self._found(function)

    def _found(self, function: Callable[..., object]) -> Callable[..., object]:
        if isinstance(function, functools.partial):
            return functools.partial(self(function.func), *function.args, **function.keywords)
        if isinstance(function, Method):
            return self(function.plain)
        plain = getattr(function, "__func__", function)
        if isinstance(plain, functools._lru_cache_wrapper):  # what it has kept are sizes of other widths
            return self(plain.__wrapped__)
        if hasattr(plain, STANDS_FOR):
            return self(getattr(plain, STANDS_FOR))
        if not isinstance(plain, FunctionType):
            call = type(function).__call__  # of an object that is called
            if isinstance(call, FunctionType):
                return self(MethodType(call, function))
        for routine in self.routines:
            if _is(routine.text, plain):
                self.known.append((plain, routine.function(plain)))
                return self(function)
        names = ", ".join(routine.text.name for routine in self.routines)
        raise InputError(
            f"{getattr(function, '__qualname__', type(function).__name__)} is called where the example inputs led to "
            f"{names}, whose sizes follow the widths: wrap the model again"
        )


def followed(routines: tuple[Routine, ...]) -> list[tuple[FunctionType, Routine]]:
    """The functions that were called, by a changed function that has run, where these are called: as they were."""
    known = [plain for plain, _ in _redirect(routines).known if isinstance(plain, FunctionType)]
    return [(plain, routine) for plain in known for routine in routines if _is(routine.text, plain)]


@functools.lru_cache(maxsize=1024)
def _redirect(routines: tuple[Routine, ...]) -> Redirect:
    """One for all copies of a model, so that a compiled copy finds the functions of the first run."""
    return Redirect(routines)


class Rewritten:
    """A module's forward with sizes that follow; picklable, and copied together with its module."""

    def __init__(self, owner: nn.Module, routine: Routine):
        self.owner, self.routine = owner, routine
        self._make()

    def _make(self) -> None:
        cls = type(self.owner)
        forward = getattr(cls, "surgery_base", cls).forward
        self.__name__ = "forward"
        self.__signature__ = inspect.signature(forward.__get__(self.owner))
        self._function = self.routine.function(forward, root=True)
        self._given = {MODULE: self.owner} if MODULE in inspect.signature(self._function).parameters else {}

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._function(self.owner, *args, **kwargs, **self._given)

    @property
    def __code__(self) -> CodeType:
        """What `torch.export` asks of a forward."""
        return type(self).__call__.__code__

    @property
    def __globals__(self) -> dict[str, object]:
        """What `torch.jit.script` asks of a forward."""
        raise OnlyOfClasses(
            f"torch.jit.script compiles forwards of classes, and that of this {type(self.owner).__name__} was written "
            f"anew: use torch.jit.trace, or {INSTEAD}"
        )

    def __reduce__(self) -> tuple[object, tuple[type[Rewritten]], dict[str, object]]:
        return _restore, (type(self),), {"owner": self.owner, "routine": self.routine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.owner, self.routine = state["owner"], state["routine"]
        self._make()


class Method(Rewritten):
    """A method that the forward of `owner` calls, with sizes that follow: for those who call it themselves.

    It is bound to `holder`, the same module or one below. The sizes are attributes of `owner`.
    """

    def __init__(self, owner: nn.Module, routine: Routine, holder: nn.Module, name: str):
        self.holder, self.name = holder, name
        super().__init__(owner, routine)

    @property
    def plain(self) -> MethodType:
        """The method as its class has it."""
        found: MethodType = getattr(type(self.holder), self.name).__get__(self.holder)
        return found

    def _make(self) -> None:
        self.__name__, self.__signature__ = self.name, inspect.signature(self.plain)
        self._function = self.routine.function(self.plain.__func__)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._function(self.holder, *args, **kwargs, **{MODULE: self.owner})

    def __reduce__(self) -> tuple[object, tuple[type[Rewritten]], dict[str, object]]:
        make, given, state = super().__reduce__()
        return make, given, state | {"holder": self.holder, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.holder, self.name = state["holder"], state["name"]
        super().__setstate__(state)


def _restore(cls: type[Rewritten]) -> Rewritten:
    return cls.__new__(cls)
