"""A constructor, statement by statement."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType

from torch import nn

from surgery.modules.code.bytecode import assigned
from surgery.modules.code.source import NoSource, outline
from surgery.modules.constructor.calls import Calls
from surgery.modules.constructor.scope import SELF, Unreadable
from surgery.modules.constructor.values import OTHER, Built, Constructed, Given, Items, Value, item, joined

DEEPEST = 8  # functions in functions


def constructed(module: nn.Module) -> Constructed:
    """What the constructor of a module's class makes of its arguments; nothing where its source cannot be had."""
    cls: type = type(module)
    return _constructed(cls)


@functools.lru_cache(maxsize=512)
def _constructed(cls: type) -> Constructed:
    names = _parameters(cls)
    if cls.__module__.startswith("torch.nn.modules") and not issubclass(cls, nn.Sequential):
        return Constructed({name: Given(name) for name in names})  # they hold their arguments under these names
    reader = _Reader(cls)
    try:
        reader.construct(cls.__mro__, {name: Given(name) for name in names})
    except (NoSource, Unreadable, RecursionError):
        return Constructed()
    unseen = assigned(cls, frozenset(reader.followed))  # by methods that run later, or are not followed
    own = {name.removeprefix(SELF): value for name, value in reader.attributes().items()}
    own = {name: value for name, value in own.items() if name not in unseen}
    return Constructed(own, reader.either, reader.lines, frozenset(reader.elsewhere))


def _parameters(cls: type) -> list[str]:
    try:
        return list(inspect.signature(cls.__init__).parameters)[1:]  # type: ignore[misc]
    except (TypeError, ValueError):
        return []


class _Reader(Calls):
    """Follows the statements of a constructor, and of the functions that it calls."""

    def __init__(self, cls: type):
        super().__init__(cls)
        self.depth = 0
        self.returned: list[Value] = []
        self.lines: dict[str, tuple[str, int]] = {}
        self.elsewhere: set[str] = set()
        self.followed: set[CodeType] = set()

    def construct(self, mro: Sequence[type], given: Mapping[str, Value]) -> None:
        """Follow the first constructor in an order of classes."""
        for i, cls in enumerate(mro):
            if cls in (nn.Module, object):
                return
            function = vars(cls).get("__init__")
            if function is not None:
                if not isinstance(function, FunctionType):
                    raise NoSource(f"the constructor of {cls.__name__} is no plain function")
                self.follow(function, given, mro[i + 1 :])
                return

    def follow(self, function: FunctionType, given: Mapping[str, Value], mro: Sequence[type]) -> Value:
        plain = inspect.unwrap(function)
        if self.depth >= DEEPEST:
            raise NoSource("functions in functions, too deep to follow")
        if not isinstance(plain, FunctionType):
            raise NoSource("a function around one that is not written in Python")
        if self.depth and not self.worth(plain):
            raise NoSource("of another file")
        tree = outline(plain.__code__)
        if not isinstance(tree, ast.FunctionDef):
            raise NoSource("a lambda")
        outside = self.names, self.function, self.me, self.mro, self.returned
        arguments = [*tree.args.posonlyargs, *tree.args.args]
        self.names = {**self.attributes(), **given}
        self.function, self.returned, self.mro = plain, [], mro
        self.me = arguments[0].arg if mro and arguments else ""
        self.depth += 1
        try:
            self.body(tree.body)
            result = self.one_of(function.__name__, *self.returned) if self.returned else None
        finally:
            made = self.attributes()
            self.names, self.function, self.me, self.mro, self.returned = outside
            self.depth -= 1
        self.names |= made
        self.followed.add(plain.__code__)
        return result

    def worth(self, function: FunctionType) -> bool:
        """Whether a function is followed: constructors, and what stands in a file with one of the class."""
        made = [vars(cls).get("__init__") for cls in self.cls.__mro__]
        files = {one.__code__.co_filename for one in made if isinstance(one, FunctionType)}
        return function.__name__ == "__init__" or function.__code__.co_filename in files

    def attributes(self) -> dict[str, Value]:
        """The attributes of the module so far."""
        return {name: value for name, value in self.names.items() if name.startswith(SELF)}

    def call___init__(self, node: ast.Call) -> Value:
        """`super().__init__(...)`, or `Base.__init__(self, ...)`."""
        assert isinstance(node.func, ast.Attribute)
        base, mro, arguments = node.func.value, self.mro, node.args
        if not (isinstance(base, ast.Call) and ast.unparse(base.func) == "super"):
            cls = self.outer(base)
            if not isinstance(cls, type) or cls not in self.cls.__mro__:
                return None
            mro, arguments = self.cls.__mro__[self.cls.__mro__.index(cls) :], node.args[1:]
        function = next((vars(cls)["__init__"] for cls in mro if "__init__" in vars(cls)), None)
        given = self.arguments(ast.Call(node.func, arguments, node.keywords), function, bound=True)
        self.construct(mro, given if given is not None else {})
        return OTHER

    def body(self, statements: Sequence[ast.stmt]) -> bool:
        """Follow statements; whether the code goes on after them."""
        for statement in statements:
            follow = getattr(self, f"do_{type(statement).__name__.lower()}", None)
            if follow is None:
                self.forget([statement])
            elif follow(statement) is False:
                return False
        return True

    def do_pass(self, _: ast.stmt) -> None:
        """What changes nothing that is followed."""

    do_import = do_importfrom = do_assert = do_pass

    def do_functiondef(self, statement: ast.FunctionDef) -> None:
        """A function of the constructor's own may set what is around it, whenever it is called."""
        self.forget([statement])
        if any(isinstance(node, ast.Nonlocal) for node in ast.walk(statement)):
            raise Unreadable("a function inside sets variables of the constructor")
        self.names.pop(statement.name, None)

    def do_return(self, statement: ast.Return) -> bool:
        self.returned.append(self.value(statement.value) if statement.value else None)
        return False

    def do_raise(self, _: ast.Raise) -> bool:
        return False

    def do_expr(self, statement: ast.Expr) -> None:
        self.value(statement.value)

    def do_assign(self, statement: ast.Assign) -> None:
        value = self.value(statement.value)
        for target in statement.targets:
            self.assign(target, value)

    def do_annassign(self, statement: ast.AnnAssign) -> None:
        if statement.value is not None:
            self.assign(statement.target, self.value(statement.value))

    def do_augassign(self, statement: ast.AugAssign) -> None:
        key = self.key(statement.target)
        old, new = self.names.get(key or ""), self.value(statement.value)
        if key is None:  # an item, or an attribute of something else
            self.assign(statement.target, None)
            return
        if isinstance(old, Items) and isinstance(statement.op, ast.Add) and not self.loops:
            self.names[key] = joined([old, new])
            return
        self.names[key] = None if self.loops else self.arithmetic(statement.op, old, new) or self.fresh(key)

    def do_if(self, statement: ast.If) -> bool:
        before = dict(self.names)
        goes_on = self.body(statement.body)
        then, self.names = self.names, before
        if not self.body(statement.orelse):
            self.names = then
            return goes_on
        if goes_on:
            self.merge(then, self.names)
        return True

    def do_for(self, statement: ast.For | ast.While) -> None:
        before = dict(self.names)
        if isinstance(statement, ast.For):
            self.assign(statement.target, None)
        inside = [node for one in statement.body for node in ast.walk(one)]
        for key in [self.key(node) for node in inside if isinstance(getattr(node, "ctx", None), ast.Store)]:
            if key is not None and not isinstance(self.names.get(key), Built | Items):
                self.names[key] = None  # the turn before may have left another value
        self.loops += 1
        self.body(statement.body)
        self.loops -= 1
        self.merge(before, self.names)

    do_while = do_for

    def do_with(self, statement: ast.With) -> bool:
        return self.body(statement.body)

    def do_try(self, statement: ast.Try) -> None:
        self.body(statement.body)
        for part in (*(handler.body for handler in statement.handlers), statement.orelse, statement.finalbody):
            before = dict(self.names)
            self.body(part)
            self.merge(before, self.names)

    def assign(self, target: ast.expr, value: Value) -> None:
        """Give a variable, an attribute, or several of them a value."""
        if isinstance(target, ast.Tuple | ast.List):
            for i, one in enumerate(target.elts):
                self.assign(one, item(value, i))
            return
        key = self.key(target)
        if key is None:  # an item, or an attribute of something else
            self.forget([target])
            self.elsewhere |= {target.attr} if isinstance(target, ast.Attribute) else set()
        else:
            self.names[key] = value
            if key.startswith(SELF) and self.function is not None:
                self.lines[key.removeprefix(SELF)] = self.function.__code__.co_filename, target.lineno
