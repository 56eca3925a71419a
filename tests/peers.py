"""What other libraries get wrong, each failure by name, and what is right. The tests over it are `tests/test_peers.py`.

`peer` says what was seen of Torch-Pruning 1.6.1 (TP: magnitude pruner at half width, compared with the same channels
masked) or of Model-Optimizer 0.47 (MO: the search space of FastNAS), run on the model of the row unless it says
otherwise.
The last rows are graphs from their issues that TP slices rightly now; they stay as cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Failure:
    """What a peer does with a model of `tests/models`, and what is right.

    Attributes:
        peer: what the peer does.
        case: the name of the model.
        groups: every group, and its size.
        pinned: tensors that are fixed though no input or output reaches them: what the reason says.
        code: what stands in the line that the reasons name.
    """

    peer: str
    case: str
    groups: Mapping[str, int] = field(default_factory=dict)
    pinned: Mapping[str, str] = field(default_factory=dict)
    code: str = ""


def stem(reason: str) -> dict[str, str]:
    """The layers in front of an operation over channels, all fixed for one reason."""
    return dict.fromkeys(("conv1.bias", "bn1.weight", "bn1.bias"), reason)


def layers(count: int, groups: Mapping[str, int]) -> dict[str, int]:
    """The same groups in each of `count` layers; `{}` is the layer's number."""
    return {name.format(i): size for i in range(count) for name, size in groups.items()}


FAILURES: dict[str, Failure] = {
    # one operation
    "channels-last flatten": Failure(
        "TP: silently wrong; MO: nothing to search, without a reason", "nhwc_flatten", {"conv.o": 14, "fc.o": 20}),
    "channel shuffle": Failure(
        "TP: silently wrong; MO: nothing to search", "channel_shuffle_square", {"conv1.o.0": 4, "conv1.o.1": 4}),
    "channel shuffle of five": Failure(
        "TP: the pruned model crashes in its view", "channel_shuffle", {"conv1.o.0": 4, "conv1.o.1": 5}),
    "roll": Failure(
        "TP: silently wrong", "roll_channels", {}, stem("rolled at roll"), "torch.roll(x, shifts=5, dims=1)"),
    "flip": Failure(
        "TP: silently wrong", "flip_channels", {}, stem("flipped at flip"), "torch.flip(x, dims=[1])"),
    "index_select": Failure(
        "TP: silently wrong", "index_select_all", {}, stem("indexed by position at index_select"), "x.index_select(1,"),
    "index_select and strides": Failure(
        "TP: planning does not return", "index_select", {}, stem("indexed by position at index_select"),
        "torch.index_select(x, 1, self.index)"),
    "a list of channels": Failure(
        "TP: the pruned model crashes", "index_list", {}, stem("indexed by position at __getitem__"), "x[:, [5, 2,"),
    "swapped head views": Failure(
        "TP: silently wrong; MO: nothing to search", "swapped_heads",
        {"embed.o": 30, "q.o.0": 10, "q.o.1": 3, "v.o.1": 10}),
    "fft": Failure(
        "TP: silently wrong", "fft_channels", {}, stem("transformed as positions at fft_fft"),
        "torch.fft.fft(x, dim=1)"),
    "fft of tokens and features": Failure(
        "TP: crash", "fft_features", {"fc1.o": 34},
        dict.fromkeys(("embed.bias", "norm.weight", "fc2.bias"), "transformed as positions at fft_fft"),
        "torch.fft.fft("),
    "channels minus their neighbours": Failure(
        "TP: planning does not return", "channel_difference", {}, stem("every position stands alone")),
    "softmax over channels": Failure(
        "TP: outputs change and nothing says so; here the twin trains with the softmax of what is left",
        "softmax_channels", {"conv1.o": 13}),
    "nn.MultiheadAttention": Failure(
        "TP: silently wrong", "attention_alone", {"embed.o": 32, "attention.h": 4, "attention.d": 8}),
    "nn.MultiheadAttention that returns its weights": Failure(
        "TP: prunes nothing", "torch_attention", {"embed.o": 28, "attention.h": 4, "attention.d": 7}),
    "halves rotated and added": Failure("TP: planning does not return", "rotate_add", {"fc1.o": 11}),
    "sort": Failure(
        "TP: taken for element-wise, silently wrong", "sort_channels", {},
        stem("the order along this dimension matters at sort"), "torch.sort(x, dim=1)"),
    "local response norm": Failure(
        "TP: taken for element-wise, silently wrong", "local_response_norm", {},
        stem("the order along this dimension matters at local_response_norm")),
    "unknown operation": Failure(
        "TP: taken for element-wise, silently wrong", "unknown_operation", {},
        stem("no rule for turned"), "torch.ops.surgery_tests.turned(x)"),
    # groups and shapes
    "unequal indices in a grouped convolution": Failure(
        "TP: given other channels of each group, slices them all like those of the first, silently",
        "grouped_conv", {"conv1.o.0": 3, "conv1.o.1": 8, "between.o": 12}),
    "groups that straddle a concatenation": Failure(
        "TP: crash", "grouped_across_cat", {"grouped.o": 8},
        dict.fromkeys(("a.bias", "b.bias"), "24 features that have no common refinement meet at grouped"),
        "self.grouped("),
    "grouped ConvTranspose": Failure(
        "TP: crash", "grouped_deconv", {"conv1.o.0": 4, "conv1.o.1": 6, "between.o": 5}),
    "PixelShuffle": Failure("TP: crash", "pixel_shuffle", {"conv1.o": 14, "conv2.o.0": 10}),
    "x[:, :8]": Failure("TP: the pruned model crashes", "slice_first_8", {"conv1.o.0": 8, "conv1.o.1": 10}),
    "the first channels convolved": Failure(
        "TP: the pruned model crashes", "partial_conv", {"conv1.o.0": 6, "conv1.o.1": 11, "between.partial.o": 6}),
    "flatten with a literal size": Failure(
        "TP: the pruned model crashes; MO: keeps the channels of the last convolution", "lenet",
        {"conv1.o": 6, "conv2.o": 16, "fc1.o": 120, "fc2.o": 84}),
    "flatten, then BatchNorm": Failure("TP: the pruned model crashes", "flatten_batchnorm", {"conv.o": 14}),
    "split": Failure(
        "TP: the pruned model crashes; MO: nothing to search, without a reason", "half_cat_half_add",
        {"stem.o": 10, "other.o": 8}),
    "reshape": Failure(
        "MO: all but one width frozen, without a reason", "linear_to_deconv",
        {"fc.o.0": 24, "deconv1.o": 14, "deconv2.o": 6}),
    "linked concatenations": Failure(
        "TP: silently wrong; MO: nothing to search, without a reason", "linked_concats",
        {"a.o": 8, "b.o.0": 6, "b.o.1": 10}),
    "heads of a fused projection": Failure(
        "TP: crash; MO: attention and residual width frozen, without a reason", "vit_fused_qkv",
        {"cls_token.2": 24, **layers(2, {"blocks.{}.attn.qkv.o.0": 4, "blocks.{}.attn.qkv.o.1": 6,
                                         "blocks.{}.mlp.fc1.o": 60})}),
    "GLU": Failure("TP and MO: crash", "glu", {"conv1.o.1": 11}),
    "PReLU": Failure("TP: crash; MO: the searched model crashes", "prelu", {"conv1.o": 15, "between.0.o": 21}),
    "channel cumsum": Failure(
        "MO: sorts the channels by importance, and outputs change", "channel_cumsum", {},
        stem("the order along this dimension matters at cumsum"), "torch.cumsum(x, dim=1)"),
    "depthwise down to a width of 1": Failure(
        "MO: reported to crash (not seen in 0.47)", "depthwise", {"conv1.o": 14}),
    "depthwise with a multiplier": Failure("TP: crash", "depthwise_multiplier", {"conv1.o": 14, "between.o": 2}),
    "a depthwise layer of one channel": Failure(
        "MO: reported to crash (not seen in 0.47)", "depthwise_of_one", {},
        {"between.bias": "a single value has no width"}),
    # whole models
    "tied embeddings": Failure(
        "TP: prunes nothing here; an embedding tied to a head alone comes out untied, in two shapes", "tied_embeddings",
        {"embedding.d": 20, "fc1.o": 34}, {"head.bias": "positions of embedding"}),
    "Conv1D of GPT-2": Failure(
        "TP: prunes nothing, silently", "gpt2",
        {"wte.d": 36, **layers(2, {"h.{}.attn.c_attn.weight.1.0": 4, "h.{}.attn.c_attn.weight.1.1": 9,
                                   "h.{}.mlp.c_fc.weight.1": 80})}),
    "LSTM": Failure("TP: crash", "lstm_tagger", {"word_embeddings.d": 20, "lstm.h": 14}),
    "GRU": Failure("TP: prunes nothing; one layer between linear ones: crash", "gru_classifier",
                   {"embedding.d": 18, "gru.h": 26}),
    "Llama with 8 query and 4 key-value heads": Failure(
        "TP: planning does not return", "llama_gqa",
        {"embed_tokens.d": 48, "layers.0.self_attn.q_proj.o.2": 3,
         **layers(2, {"layers.{}.self_attn.q_proj.o.0": 4, "layers.{}.self_attn.q_proj.o.1": 2,
                      "layers.{}.mlp.gate_proj.o": 68})}),
    "experts, all run": Failure(
        "TP: crash", "moe_dense",
        {"embed.o": 20, "experts.0.up.o": 14, "experts.1.up.o": 26, "experts.2.up.o": 18},
        {"router.bias": "every position stands alone"}),
    "experts, masked": Failure(
        "TP: crash", "moe_masked_topk", {"embed.o": 18, **layers(4, {"experts.{}.w1.o": 22})}),
    "experts, routed": Failure("TP: crash", "moe_top1", {"embed.o": 20, **layers(4, {"experts.{}.up.o": 26})}),
    "experts, stacked": Failure("TP: crash", "moe_stacked", {"weight_up.0": 3, "weight_up.1": 20, "weight_up.2": 26}),
    # tricky graphs
    "a bare parameter and a layer norm of two formats": Failure(
        "TP: the pruned model crashes", "convnext",
        {"downsample_layers.0.0.o": 14, "downsample_layers.1.1.o": 26, "stages.0.0.pwconv1.o": 42,
         "stages.0.1.pwconv1.o": 42, "stages.1.0.pwconv1.o": 78}),
    "in-place operations on parts": Failure(
        "TP: the pruned model crashes", "in_place", {"scale.0.0": 6, "scale.0.1": 4, "scale.0.2": 6}),
    "written into an empty tensor": Failure("TP: crash", "filled_buffer", {"a.o": 8, "b.o": 14}),
    "one-channel maps": Failure("TP: prunes nothing", "one_channel", {"stem.o": 15, "conv.o": 10}),
    "two inputs and two outputs": Failure(
        "TP: prunes classes, unless told which layers make outputs", "two_in_two_out",
        {"image.0.o": 12, "image.3.o": 20, "tabular.0.o": 30, "tabular.2.o": 16, "fuse.o": 40}),
    "unused parameters": Failure(
        "TP: leaves them in their old shapes, and says nothing", "unused_parameters", {"fc1.o": 24},
        dict.fromkeys(("temperature", "auxiliary.0.bias"), "the example inputs do not reach it")),
    "nested concatenations of 1:2:3:6": Failure("TP: right", "nested_concat", {"a.o": 5, "b.o": 10, "c.o": 15}),
    "a block reused": Failure("TP: right", "reused_block", {"stem.o": 14, "block.0.o": 22}),
    "concatenated and split in space": Failure("TP: right", "spatial_cat_split", {"left.o": 12, "both.o": 18}),
    "an MLP with skips": Failure("TP: right", "mlp_skips", {"fc1.o": 30, "fc2.o": 22}),
    "a bare parameter": Failure("TP: right", "gamma", {"gamma.0": 18}),
    "out=": Failure("TP: right", "out_argument", {"stem1.o": 14, "head.0.o": 18}),
    "an untraceable branch": Failure(
        "TP: right", "data_dependent_branch",
        {"fc1.o": 30, "fc2.o": 18, "inner.calm.o": 18, "inner.loud.0.o": 13, "fc3.o": 22}),
    "an untraceable number": Failure("TP: right", "item_scale", {"fc1.o": 30, "fc2.o": 18, "fc3.o": 22}),
    "an untraceable round trip": Failure(
        "TP: right, but blind: it does not see what numpy does", "numpy_round_trip",
        {"fc1.o": 30, "inner.fc.o": 18, "fc3.o": 22}, {"fc2.bias": "no rule for numpy"}, ".numpy()"),
}  # fmt: skip
