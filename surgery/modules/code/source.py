"""The functions of a model as source, and where in it a recorded call stands.

A recorded call knows the chain of functions that led to it: each a code object and an instruction. Python tells which
characters of the source an instruction was compiled from, so the expression can be found, changed and compiled again.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import linecache
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, TypeAlias

Chain: TypeAlias = "tuple[tuple[CodeType, int], ...]"  # functions, outermost first, with the instruction each is at
Span: TypeAlias = "tuple[int, int, int, int]"  # first line, last line, first column, last column
Definition: TypeAlias = "ast.FunctionDef | ast.Lambda"


class NoSource(Exception):
    """The source of a function cannot be had, or is not what runs."""


@dataclass(frozen=True)
class Text:
    """The source of one function: its definition, and where that stands."""

    name: str  # qualified
    owner: str  # the class around it, after which private names are called
    file: str
    line: int
    column: int
    source: str  # without decorators
    free: tuple[str, ...]  # its free variables
    flags: int  # of the compiler: `from __future__ import ...`

    def tree(self) -> Definition:
        """A fresh syntax tree, with the positions of the file."""
        module = ast.parse(f"({self.source})" if self.name.endswith("<lambda>") else self.source)
        found = module.body[0]
        definition = found.value if isinstance(found, ast.Expr) else found
        assert isinstance(definition, ast.FunctionDef | ast.Lambda)
        right = self.column - definition.col_offset
        for node in ast.walk(definition):
            if hasattr(node, "lineno"):
                node.col_offset += right if node.lineno == 1 else 0  # type: ignore[attr-defined]
                node.end_col_offset += right if node.end_lineno == 1 else 0  # type: ignore[attr-defined]
        ast.increment_lineno(definition, self.line - 1)
        return definition

    def compile(self, tree: Definition, names: Sequence[str] = (), imports: Sequence[str] = ()) -> CodeType:
        """The code of a changed tree, in which `names` are free variables too.

        Python calls the functions of what its file `imports` in another way; it makes no difference but in the code.
        """
        place = {name: getattr(tree, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
        inside: ast.stmt = tree if isinstance(tree, ast.FunctionDef) else ast.Expr(tree, **place)
        if self.owner:
            inside = ast.ClassDef(self.owner, [], [], [inside], [], **place)
        arguments = [ast.arg(name, **place) for name in dict.fromkeys((*self.free, *names))]
        given = ast.arguments(posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[])
        scope = ast.FunctionDef("surgery_scope", given, [inside], [], **place)
        imported = [ast.Import([ast.alias(name)], **place) for name in imports]
        module = ast.fix_missing_locations(ast.Module([*imported, scope], []))
        code = compile(module, self.file, "exec", self.flags, True)
        name = getattr(tree, "name", "<lambda>")
        return next(found for found in _inside(code) if found.co_name == name)


def _inside(code: CodeType) -> Iterator[CodeType]:
    """The functions and classes that a code object defines, outer ones first."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)


class _Identity:
    """A code object as a key by identity; code objects compare all that they hold."""

    def __init__(self, code: CodeType):
        self.code = code

    def __hash__(self) -> int:
        return id(self.code)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.code is self.code


def text(code: CodeType) -> Text:
    """The source that a function was compiled from. Raises NoSource where there is none, or another one."""
    return _text(_Identity(code))


_FUTURE = 0x1FE0000  # the compiler flags of `from __future__ import ...`


@functools.lru_cache(maxsize=1024)
def _text(key: _Identity) -> Text:
    code = key.code
    alone = _alone(code)
    if alone is not None:
        return alone
    source = "".join(linecache.getlines(code.co_filename))
    definitions, imports = _read(source)
    for owner, definition in definitions:
        if not _is_of(definition, code):
            continue
        body = ast.get_source_segment(source, definition)
        place = (code.co_filename, definition.lineno, definition.col_offset)
        found = Text(code.co_qualname, owner, *place, body or "", code.co_freevars, code.co_flags & _FUTURE)
        if "@pytest_ar" in code.co_names:  # pytest compiles the asserts of test files in its own way
            return found
        for known in (imports, []):  # an interactive cell may use what another one has imported
            if _compiles_to(found, known, code):
                return found
    what = "is not the code that runs" if source else "is not available"
    raise NoSource(f"the source of {code.co_qualname} ({code.co_filename}) {what}")


def _alone(code: CodeType) -> Text | None:
    """The source of a function, read from its own lines: whole files can be long. None where that does not do."""
    owner, inside = code.co_qualname.split(".")[-2:] if "." in code.co_qualname else ("", code.co_qualname)
    if owner == "<locals>" or not inside.isidentifier():
        return None
    known = _block(code)
    if known is None:
        return None
    block, tree = known
    margin = len(block[0]) - len(block[0].lstrip())
    first, last = tree.lineno - 1, tree.end_lineno
    body = "".join([block[first][margin:], *block[first + 1 : last]]).rstrip("\n")
    place = (code.co_filename, code.co_firstlineno + first, margin)
    found = Text(code.co_qualname, owner, *place, body, code.co_freevars, code.co_flags & _FUTURE)
    try:
        return found if _compiles_to(found, [], code) else None
    except SyntaxError:
        return None


def _block(code: CodeType) -> tuple[list[str], ast.FunctionDef] | None:
    """The lines of a function from where it begins, and their tree; None where they do not hold one of its name."""
    try:
        block = inspect.getblock(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :])
        parsed = ast.parse(textwrap.dedent("".join(block))).body
    except (SyntaxError, tokenize.TokenError):
        return None
    match parsed:
        case [ast.FunctionDef(name=code.co_name) as tree]:
            return block, tree
    return None


def _compiles_to(found: Text, imports: Sequence[str], code: CodeType) -> bool:
    again = found.compile(found.tree(), imports=imports)
    return (again.co_code, again.co_names, again.co_varnames) == (code.co_code, code.co_names, code.co_varnames)


def outline(code: CodeType) -> Definition:
    """The syntax tree of a function that is only to be read: from its own lines, if these use its very names.

    Raises NoSource where its source cannot be had.
    """
    known = _block(code)
    if known is None:
        return text(code).tree()
    tree = known[1]
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if not {name for name in code.co_names if not name.startswith("_")} <= used | _imported(tree):
        return text(code).tree()
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    return tree


def _imported(tree: ast.AST) -> set[str]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {part for node in found for alias in node.names for part in alias.name.split(".")}
    return names | {node.module for node in found if isinstance(node, ast.ImportFrom) and node.module}


@functools.lru_cache(maxsize=64)
def _read(source: str) -> tuple[list[tuple[str, Definition]], list[str]]:
    """The functions and lambdas of a file, each with the name of the class around it; and what the file imports."""
    definitions: list[tuple[str, Definition]] = []
    imports: list[str] = []

    def visit(node: ast.AST, owner: str, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef)
            if isinstance(child, ast.FunctionDef | ast.Lambda):
                definitions.append((owner, child))
            elif isinstance(child, ast.Import | ast.ImportFrom) and top:
                imports.extend(
                    alias.asname or alias.name.partition(".")[0] for alias in child.names if alias.name != "*"
                )
            visit(child, child.name if isinstance(child, ast.ClassDef) else owner, top and not inner)

    with contextlib.suppress(SyntaxError):
        visit(ast.parse(source), "", True)
    return definitions, imports


def _is_of(definition: Definition, code: CodeType) -> bool:
    decorators = definition.decorator_list if isinstance(definition, ast.FunctionDef) else []
    first = min([definition.lineno, *(decorator.lineno for decorator in decorators)])
    return first == code.co_firstlineno and getattr(definition, "name", "<lambda>") == code.co_name


def collapsed(chain: Chain) -> list[tuple[CodeType, Span | None]]:
    """The functions of a chain, and where each calls the next; those defined inside another one are part of it."""
    result, i = [], 0
    while i < len(chain):
        inside = {id(code) for code in _inside(chain[i][0])}
        last = max((j for j in range(i + 1, len(chain)) if id(chain[j][0]) in inside), default=i)
        result.append((chain[i][0], span(*chain[last])))
        i = last + 1
    return result


def span(code: CodeType, instruction: int) -> Span | None:
    """The part of the source that an instruction was compiled from."""
    for positions in list(code.co_positions())[instruction // 2 : instruction // 2 + 1]:
        if None not in positions:
            return positions  # type: ignore[return-value]
    return None


EXPRESSIONS = (ast.Call, ast.Subscript, ast.Compare, ast.BinOp)


def expression(tree: ast.AST, where: Span | None) -> ast.expr | None:
    """The call, subscript, comparison or arithmetic at a span; None where there is not exactly one."""
    found = [node for node in ast.walk(tree) if isinstance(node, EXPRESSIONS) and where in list(_spans(node))]
    return found[0] if len(found) == 1 else None


def at(tree: Any, route: Sequence[str | int]) -> Any:
    """The part of a syntax tree that a route of fields and indices leads to."""
    for key in route:
        tree = tree[key] if isinstance(key, int) else getattr(tree, key)
    return tree


def _spans(node: ast.expr) -> Iterator[Span]:
    """The spans that the instruction of an expression may carry."""
    last, end = node.end_lineno or 0, node.end_col_offset or 0
    yield node.lineno, last, node.col_offset, end
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        # a method's call, where it does not begin on the line of the method's name, is told to begin at the name
        name_end = node.func.end_col_offset or 0
        for column in (end, name_end):
            yield node.func.end_lineno or 0, last, name_end - len(node.func.attr), column
