"""Operations that treat every element alike: each dimension of the result is the broadcast of the inputs' ones."""

from __future__ import annotations

import torch
from torch import fx

from surgery.axes.signature import broadcast
from surgery.rules.base import Dims, Result, current_node, here, in_training, ordered, same_place, tensors_in, unify
from surgery.rules.registry import Operation, rule
from surgery.rules.values import places_of


def elementwise(*args: object, **kwargs: object) -> Dims:
    return broadcast(tensors_in(args, kwargs), here())


def _like_first(x: Dims, *_: object, **__: object) -> Dims:
    return x


def pointwise(*operations: Operation) -> None:
    """Declare operations whose tensor arguments broadcast against one another, element by element."""
    rule(*operations)(elementwise)


def same(*operations: Operation) -> None:
    """Declare operations whose result has the dimensions of the first tensor, whatever else they are given."""
    rule(*operations)(_like_first)


pointwise(
    *"abs absolute acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or "
    "bitwise_xor ceil clamp clamp_max clamp_min clip copysign cos cosh deg2rad digamma div divide erf erfc "
    "erfinv exp exp2 expm1 fix float_power floor floor_divide fmod frac ge gelu greater greater_equal gt hypot "
    "isfinite isinf isnan ldexp le lerp less less_equal lgamma log log10 log1p log2 logaddexp logaddexp2 "
    "logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mul multiply nan_to_num "
    "neg negative positive pow rad2deg real imag conj reciprocal remainder round rsqrt rsub sgn sigmoid "
    "sign signbit sin sinc sinh sqrt square sub subtract tan tanh threshold true_divide trunc xlogy expit entr celu "
    "elu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu relu6 rrelu selu silu softplus "
    "softshrink softsign tanhshrink isclose complex angle fmax fmin nextafter gcd lcm i0 i0e i1 i1e erfcx ndtr "
    "ndtri log_ndtr xlog1py bitwise_left_shift bitwise_right_shift isreal isposinf isneginf igamma igammac mvlgamma "
    "polygamma arccos arccosh arcsin arcsinh arctan arctanh arctan2 multigammaln psi gammaln".split(),
    torch.polar,  # torch.linalg.polar is another operation
)

same(
    *"alpha_dropout bfloat16 bool byte char clone contiguous cpu cuda data detach double dropout dropout1d "
    "dropout2d dropout3d feature_alpha_dropout feature_dropout fill float half int long resolve_conj "
    "resolve_neg short type_as zero zeros_like ones_like empty_like full_like softmax log_softmax softmin "
    "normalize renorm to type alias chalf cfloat cdouble conj_physical resolve_neg".split()
)

for _method in (
    "add sub mul truediv div floordiv mod pow and or xor radd rsub rmul rdiv rtruediv rfloordiv rpow rmod ror rand "
    "rxor iadd isub imul itruediv idiv ifloordiv ipow imod iand ior ixor lt le gt ge neg pos abs invert "
    "lshift rshift ilshift irshift"
).split():
    _function = getattr(torch.Tensor, f"__{_method}__", None)
    if _function is not None:
        pointwise(_function)


@rule("eq", "ne", "not_equal", torch.Tensor.__eq__, torch.Tensor.__ne__)
def compared(x: Dims, *others: object, **named: object) -> Dims:
    """Of places in one dimension, or with a number, which may be the place of a unit."""
    (other,) = (*others, *named.values())
    for one, against in ((x, other), (other, x)):
        if isinstance(one, Dims) and one.into is not None:
            same_place(one.into, against)
    return elementwise(x, other)


@rule("where")
def where(condition: Dims, *branches: object, **named: object) -> Result:
    if not branches and not named:
        return places_of(condition)
    return elementwise(condition, *branches, **named)


@rule("copy")
def copy(x: Dims, source: Dims, *_: object) -> Dims:
    return broadcast([x, source], here())


@rule(torch.Tensor.data.__set__)  # type: ignore[attr-defined]
def assigned(x: Dims, value: Dims) -> None:
    """`x.data = x.data.to(dtype)`, as `module.to` does it. Other data would replace a whole tensor, and not a slice."""
    tensor, node = current_node().args
    while node is not tensor and isinstance(node, fx.Node) and getattr(node.target, "__name__", "") in _ITSELF:
        node = node.args[0]
    if node is not tensor:
        raise NotImplementedError("other data is assigned")


_ITSELF = frozenset("to data detach float double half bfloat16 __get__".split())


@rule("prelu")
def prelu(x: Dims, weight: Dims) -> Dims:
    if weight and weight[0]:
        unify(x[1 if len(x) > 1 else 0], weight[0])
    return x


@rule("gumbel_softmax")
def random_softmax(x: Dims, *_: object, **__: object) -> Dims:
    for dim in () if in_training() else x:
        ordered(dim, "random values are drawn by position")
    return x


@rule(torch._assert, torch._C._nn._parse_to)
def description(*_: object, **__: object) -> None:
    """Nothing comes out."""
