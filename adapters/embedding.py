"""Tables that are read by position: the entries are fixed, the features are free."""

from torch import nn

from surgery.adapters.base import Adapter, adapter


@adapter(nn.Embedding)
class EmbeddingAdapter(Adapter):
    """Row `x` of the table."""

    axes = "... -> ... d"
    params = {"weight": "~v d"}
    sizes = {"d": "embedding_dim"}
    scale = ("weight",)
    kinds = {"d": "embedding"}


@adapter(nn.EmbeddingBag)
class EmbeddingBagAdapter(Adapter):
    """The sum, mean or maximum of rows: of each row of indices, or of the bags that offsets bound."""

    axes = "~... -> ~b d"
    params = {"weight": "~v d"}
    sizes = {"d": "embedding_dim"}
    scale = ("weight",)
    kinds = {"d": "embedding"}
