"""Small versions of well-known architectures, written as users write them, and graphs that are hard to slice.

`CASES` are the architectures, `TRICKY` the hard graphs, `BY_NAME` has both. Sizes differ from one another on purpose,
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

__all__ = ["BY_NAME", "CASES", "TRICKY", "Case", "randomise"]
