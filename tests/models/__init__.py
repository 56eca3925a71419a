"""Small versions of well-known architectures, written as users write them, and graphs that are hard to slice.

`CASES` are the architectures, `TRICKY` the hard graphs, `BY_NAME` has both. `REPRESENTATIVE` names a few that stand for
their kinds, for tests that take too long over all of them. Sizes differ from one another on purpose,
so that confused axes show; dropout is 0, so that train mode is repeatable.
"""

from . import (
    attention,
    branches,
    channels,
    channels_last,
    convolutional,
    experts,
    features,
    generative,
    gpt2,
    joins,
    language,
    mobile,
    multimodal,
    probes,
    programs,
    recurrent,
    swin,
    torch_transformers,
    vision_transformers,
)
from .case import Case
from .init import randomise

CASES: tuple[Case, ...] = (
    *convolutional.CASES,
    *branches.CASES,
    *mobile.CASES,
    *generative.CASES,
    *multimodal.CASES,
    *channels_last.CASES,
    *swin.CASES,
    *vision_transformers.CASES,
    *torch_transformers.CASES,
    *language.CASES,
    *attention.CASES,
    *gpt2.CASES,
    *recurrent.CASES,
)
TRICKY: tuple[Case, ...] = (
    *joins.TRICKY,
    *channels.TRICKY,
    *features.TRICKY,
    *experts.TRICKY,
    *programs.TRICKY,
    *probes.TRICKY,
)
BY_NAME: dict[str, Case] = {case.name: case for case in CASES + TRICKY}
# A literal view, batch norm (on flattened channels too), fused qkv, torch's attention, recurrence, tied weights, RoPE.
REPRESENTATIVE = (
    "mlp lenet resnet_basic densenet flatten_batchnorm shufflenet_v2 vit_fused_qkv vit_einops transformer_encoder "
    "multihead_attention llama_gqa gpt2 lstm_tagger recurrent_cells tied_embeddings swin"
).split()

__all__ = ["BY_NAME", "CASES", "REPRESENTATIVE", "TRICKY", "Case", "randomise"]
