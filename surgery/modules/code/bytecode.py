"""Reading, without running it, which names the code of a class uses."""

from __future__ import annotations

import dis
import functools
import itertools
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

from torch import nn

# Methods that no forward calls.
_APART = frozenset(
    "__init__ __repr__ extra_repr _init_weights init_weights initialize_weights reset_parameters _reset_parameters "
    "load_state_dict _load_from_state_dict state_dict _save_to_state_dict".split()
)


def mentions(cls: type, names: set[str]) -> bool:
    """Whether the code of a module class, what makes and stores it apart, uses one of these names."""
    return not names.isdisjoint(_names(cls))


@functools.cache
def reads(cls: type, name: str) -> bool:
    """Whether the code of a module class, or a function of its files that it calls by name, uses a name."""
    todo, seen = list(_functions(cls)), set[CodeType]()
    while todo:
        function = todo.pop()
        if function.__code__ in seen or f"{function.__module__}.".startswith("torch."):
            continue
        seen.add(function.__code__)
        used = {used for code in _codes(function.__code__) for used in code.co_names}
        if name in used:
            return True
        known = [value for key, value in function.__globals__.items() if key in used]
        known += [vars(m).get(key) for m in known if isinstance(m, ModuleType) for key in used & vars(m).keys()]
        todo += [value for value in known if isinstance(value, FunctionType)]
    return False


@functools.lru_cache(maxsize=2048)
def assigned(cls: type, apart: frozenset[CodeType] = frozenset()) -> frozenset[str]:
    """The names of the attributes that the code of a module class assigns, its constructor and some functions apart."""
    codes = [function.__code__ for function in _functions(cls) if function.__code__ not in apart]
    return frozenset().union(*map(_stored, codes))


@functools.lru_cache(maxsize=8192)  # classes of a library share the methods of their bases
def _stored(code: CodeType) -> frozenset[str]:
    steps = (step for inner in _codes(code) for step in dis.get_instructions(inner))
    return frozenset(step.argval for step in steps if step.opname == "STORE_ATTR")


_FILLING = frozenset("append extend insert add update setdefault __setitem__ appendleft".split())


@functools.cache
def filled(cls: type) -> frozenset[str]:
    """The names of the attributes that the code of a module class, its constructor apart, may put something into.

    They stand in the line that does it, or in one that gives them another name.
    """
    return frozenset().union(*(_filled(function.__code__) for function in _functions(cls)))


@functools.lru_cache(maxsize=8192)
def _filled(code: CodeType) -> frozenset[str]:
    found: set[str] = set()
    for inner in _codes(code):
        steps = list(dis.get_instructions(inner))
        filling = {_line(s) for s in steps if s.opname == "STORE_SUBSCR" or s.argval in _FILLING}
        named = {_line(step) for step, then in itertools.pairwise(steps) if then.opname == "STORE_FAST"}
        lines = filling | named if filling else filling
        found |= {step.argval for step in steps if step.opname == "LOAD_ATTR" and _line(step) in lines}
    return frozenset(found)


def _line(step: dis.Instruction) -> int | None:
    return None if step.positions is None else step.positions.lineno


@functools.cache
def _names(cls: type) -> frozenset[str]:
    found: set[str] = set()
    for function in _functions(cls):
        for code in _codes(function.__code__):
            used = set(code.co_names)
            if "getattr" in used and not _computes_names(code):
                used.remove("getattr")  # the names are strings in the code
            found |= used | {constant for constant in code.co_consts if isinstance(constant, str)}
    return frozenset(found)


def _computes_names(code: CodeType) -> bool:
    """Whether code calls `getattr` with a name that is not simply written out."""
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        if step.opname.startswith("LOAD_") and step.argval == "getattr":
            call = itertools.takewhile(lambda later: not later.opname.startswith("CALL"), steps[i + 1 :])
            arguments = [later for later in call if later.opname != "PRECALL"]
            named = any(later.opname == "LOAD_CONST" and isinstance(later.argval, str) for later in arguments)
            if not named or any(later.opname.startswith(("BUILD", "FORMAT", "BINARY")) for later in arguments):
                return True
    return False


def _functions(cls: type) -> Iterator[FunctionType]:
    """The functions of a module class, its constructor apart."""
    for base in cls.__mro__:
        if base is nn.Module:
            break
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            while hasattr(function, "__wrapped__"):  # decorators stand on decorators
                function = function.__wrapped__
            if isinstance(function, FunctionType) and name not in _APART:
                yield function


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of every function inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
