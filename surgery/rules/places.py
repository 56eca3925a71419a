"""Tensors whose values are places in a dimension, as a router's `topk` gives them: which calls hand them on.

What reads such values as anything else than places leaves open whether the order of that dimension means something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from surgery.axes.algebra import Dim, Dims, resolve
from surgery.nested import fold

# Calls whose result holds values of their first argument, as they are.
HANDING_ON = frozenset(
    "__getitem__ view reshape flatten ravel unflatten permute transpose swapaxes swapdims t T mT movedim moveaxis "
    "squeeze unsqueeze expand expand_as broadcast_to contiguous to long int clone detach unbind __iter__ select split "
    "split_with_sizes chunk repeat tile repeat_interleave view_as reshape_as narrow alias float double sort".split()
)
JOINING = frozenset("stack cat concat hstack vstack".split())  # whose result holds those of all they are given
# Calls whose rules know what to make of places.
KNOWING = frozenset(
    "one_hot index_select gather take_along_dim scatter scatter_add scatter_reduce index_add index_copy index_fill "
    "histc bincount __setitem__ index_put eq ne __eq__ __ne__ embedding tolist item numpy __int__ "
    "__index__ __bool__ __float__ __format__ __contains__".split()
)


def handed_on(name: str, args: Sequence[object], kwargs: object, result: object, read: Callable[[Dim], None]) -> object:
    """The result of a call named `name`, with what is known of its values; `read` is told of dimensions whose places

    are read as anything else.
    """
    given = [dims for dims in fold((args, kwargs), Dims) if dims.into is not None]
    if not given:
        return result
    name = name if name.startswith("__") else name.rstrip("_")
    if name in HANDING_ON:
        return _pointing(result, args[0].into if args and isinstance(args[0], Dims) else None, name)
    if name in JOINING and all(resolve(dims.into or ()) == resolve(given[0].into or ()) for dims in fold(args, Dims)):
        return _pointing(result, given[0].into, name)
    for dims in given if name not in KNOWING else ():
        assert dims.into is not None
        read(dims.into)
    # a rule may give back what it was given, as that of `x + 1` does
    return Dims(result) if isinstance(result, Dims) and any(result is dims for dims in given) else result


def _pointing(result: object, into: Dim | None, name: str) -> object:
    if isinstance(result, Dims):
        return result.pointing(into)
    if isinstance(result, list | tuple):
        return [_pointing(one, into if i == 0 or name != "sort" else None, name) for i, one in enumerate(result)]
    return result
