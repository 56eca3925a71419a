"""The text of a written module: imports, helpers, classes and functions with sizes, and what builds the model."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from surgery.exporting import helpers
from surgery.exporting.homes import NAME, importable, versions
from surgery.exporting.layout import STEP, Source, call, lines, mapping, sequence
from surgery.exporting.names import Names
from surgery.exporting.tree import Tree
from surgery.exporting.values import MADE, TENSORS, Values
from surgery.modules.tree import named_parameters, registered, registered_names


@dataclass(frozen=True)
class Module:
    """A model as source, and the tensors that belong beside it."""

    text: str
    tensors: dict[str, Tensor]


def module_of(model: nn.Module) -> Module:
    """The source of a model. Raises InputError for what cannot be written, with its path."""
    importable.cache_clear()  # modules may have changed since
    counting = Values(model, Names())
    Tree(counting, model).of(model)
    values = Values(model, Names(), counting.seen)
    tree = Tree(values, model)
    body = tree.of(model)
    tensors = {name: tensor.detach() for name, tensor in {**dict(registered(model)), **values.tensors}.items()}
    build = [*_statements({**values.shared, **tree.shared}), *lines(body, "return ", indent=STEP)]
    loads = "\n".join(_loading(model, values, tree))
    helped = _helpers({*values.helpers, "_fill"})
    parts = [
        _heading(model, values.names),
        "\n".join(["from __future__ import annotations", "", *_imports(helped, values.names)]),
        *helped,
        *values.written.parts,
        *tree.forwards.parts,
        "\n".join(
            [f"def _build({TENSORS}):", f'{STEP}"""The modules; their parameters hold no numbers yet."""', *build]
        ),
        loads,
    ]
    return Module("\n\n\n".join(parts) + "\n", tensors)


def _heading(model: nn.Module, names: Names) -> str:
    return f'''"""{type(model).__name__} as plain PyTorch: its classes, with the sizes of this small model as numbers.

{STEP}from {NAME} import model

{STEP}net = model()  # in eval mode, with the tensors of {NAME}.safetensors beside this file

It needs {versions(["safetensors", *sorted(names.modules)])}; other versions may do as well.
"""'''


def _imports(helped: Iterable[str], names: Names) -> Iterator[str]:
    """The import statements: of the standard library for the helpers, and what the model needs."""
    used = {node.id for text in helped for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    told = dict.fromkeys(_imported_by_helpers(frozenset(used)))
    told |= dict.fromkeys(("from pathlib import Path", "import torch", "from safetensors.torch import load_file"))
    told |= {"from torch import nn": None, **names.statements}
    plain = sorted(one for one in told if one.startswith("import "))
    yield from plain
    yield from sorted(one for one in told if not one.startswith("import "))


@functools.cache
def _definitions() -> tuple[dict[str, str], list[ast.stmt]]:
    """The source of each helper, by its name, and the imports of their file."""
    source = Path(helpers.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source)
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {node.name: ast.get_source_segment(source, node) or "" for node in found}, [*imports]


def _helpers(wanted: Iterable[str]) -> list[str]:
    """The sources of helpers and of those that they need, in the order of their file."""
    known, _ = _definitions()
    needed, todo = set[str](), list(wanted)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            names = {node.id for node in ast.walk(ast.parse(known[name])) if isinstance(node, ast.Name)}
            todo += names & known.keys()
    return [source for name, source in known.items() if name in needed]


def _imported_by_helpers(used: frozenset[str]) -> Iterator[str]:
    for node in _definitions()[1]:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = [alias.name for alias in node.names if alias.name in used]
            if names and node.module != "torch":
                yield f"from {node.module} import {', '.join(names)}"
        elif isinstance(node, ast.Import) and node.names[0].name in used:
            yield ast.unparse(node)
    if "Tensor" in used:
        yield "from torch import Tensor"


def _statements(named: dict[str, Source]) -> Iterator[str]:
    for name, source in named.items():
        yield from lines(source, f"{name} = ", indent=STEP)


def _loading(model: nn.Module, values: Values, tree: Tree) -> Iterator[str]:
    """The function that gives the model with its tensors."""
    yield f'def model(weights=Path(__file__).with_name("{NAME}.safetensors")):'
    yield f'{STEP}"""The model in eval mode, with the tensors of a file."""'
    yield f"{STEP}{TENSORS} = load_file(weights)"
    yield f'{STEP}with torch.device("meta"):'
    yield f"{STEP}{STEP}{MADE} = _build({TENSORS})"
    frozen = sequence([repr(name) for name, one in named_parameters(model) if not one.requires_grad])
    tied = mapping((repr(other), repr(name)) for other, name in _tied(model))
    yield from lines(call("_fill", [MADE, TENSORS], [("frozen", frozen), ("tied", tied)]), indent=STEP)
    yield from _statements(values.late)
    for path, name, source in tree.late:
        yield from lines(source, f"vars({_submodule(path)})[{name!r}] = ", indent=STEP)
    for path in tree.trained:
        yield f"{STEP}{_submodule(path)}.training = True"
    yield f"{STEP}return {MADE}"


def _tied(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Each further name of a parameter or buffer, and its first one."""
    first = {id(tensor): name for name, tensor in registered(model)}
    return ((name, first[id(tensor)]) for name, tensor in registered_names(model) if name != first[id(tensor)])


def _submodule(path: str) -> str:
    return f"{MADE}.get_submodule({path!r})" if path else MADE
