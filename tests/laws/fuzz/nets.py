"""Whole models around pieces, by kind of data. STEM and HEAD are the sizes beside the first and the last piece.

`HOLD(...)` stands where pieces are made; each knows how it is run: `RUN(y)`.
"""

from __future__ import annotations

HOLDERS: dict[str, tuple[str, str]] = {
    "list": ("self.blocks = nn.ModuleList([{blocks}])", "for block in self.blocks:\n    {y} = block({y}{more})"),
    "numbered": (
        "self.blocks = nn.ModuleList([{blocks}])",
        "for i in range(len(self.blocks)):\n    {y} = self.blocks[i]({y}{more})",
    ),
    "sequential": ("self.blocks = nn.Sequential({blocks})", "{y} = self.blocks({y})"),
    "slices": (
        "self.blocks = nn.Sequential({blocks})",
        "{y} = self.blocks[:1]({y})\n{y} = self.blocks[1:]({y})",
    ),
    "first and rest": (
        "self.start, *rest = [{blocks}]\nself.rest = nn.ModuleList(rest)",
        "{y} = self.start({y}{more})\nfor block in self.rest:\n    {y} = block({y}{more})",
    ),
    "method": (
        "self.blocks = nn.ModuleList([{blocks}])",
        "def run(blocks, z):\n    return run(blocks[1:], blocks[0](z{more})) if len(blocks) else z\n{y} = run(self.blocks, {y})",
    ),
    "named": (
        'self.names = []\nfor i, block in enumerate([{blocks}]):\n    self.add_module(f"layer{{i}}", block)\n    self.names.append(f"layer{{i}}")',
        "for name in self.names:\n    {y} = self._modules[name]({y}{more})",
    ),
    "weighted": (
        "self.blocks = nn.ModuleList([{blocks}])\nself.gates = nn.Parameter(torch.ones({n}))",
        "for gate, block in zip(self.gates, self.blocks):\n    {y} = block({y}{more}) * gate",
    ),
    "dict": (
        'self.blocks = nn.ModuleDict({{f"block{{i}}": block for i, block in enumerate([{blocks}])}})',
        "for name, block in self.blocks.items():\n    {y} = block({y}{more})",
    ),
    "attributes": (
        'for i, block in enumerate([{blocks}]):\n    setattr(self, f"block{{i}}", block)\nself.n = {n}',
        'for i in range(self.n):\n    {y} = getattr(self, f"block{{i}}")({y}{more})',
    ),
    "reduce": ("self.blocks = nn.ModuleList([{blocks}])", "{y} = reduce(lambda z, block: block(z{more}), self.blocks, {y})"),
    "kept": (
        "self.blocks = nn.ModuleList([{blocks}])\nself.states = []",
        "self.states = []\nfor block in self.blocks:\n    {y} = block({y}{more})\n    self.states.append({y}.detach())",
    ),
    "early": (
        "self.blocks = nn.ModuleList([{blocks}])",
        "for i, block in enumerate(self.blocks):\n    {y} = block({y}{more})\n    if {y}.shape[0] > 64:\n        break",
    ),
    "checkpoint": (
        "self.blocks = nn.ModuleList([{blocks}])",
        """for block in self.blocks:
    {y} = checkpoint(block, {y}, use_reentrant=False) if self.training else block({y})""",
    ),
}  # fmt: skip

# What a model keeps of its forwards: the constructor's part and the forward's. AXES are all but the features of `y`.
KEEPS = """
<keep| ||self.loss = 0.0||self.calls, self.seen = 0, []||self.register_buffer("mean", torch.zeros(HEAD))||
self.register_buffer("steps", torch.tensor(0))||self.mean = None||self.cache = {}||self.aux_loss = None|| ||
self.history, self.last = [], {}|| |>
"""
KEPT = """
<keep| ||self.loss = y.pow(2).mean()||self.calls += 1
self.seen.append(self.calls)||
if self.training:
    <|self.mean.mul_(0.9).add_(0.1 * y.detach().mean(AXES))||self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(AXES)||
    with torch.no_grad():
        self.mean.lerp_(y.mean(dim=AXES), 0.1)||
    self.mean.data = self.mean * 0.9 + y.detach().mean(AXES) * 0.1|>
y = y - SHAPED(self.mean)||
if self.training:
    self.steps += 1
y = y * (1 + 0.1 * self.steps)||
now = y.detach().mean(AXES)
self.mean = now if self.mean is None else 0.5 * self.mean + 0.5 * now
y = y - SHAPED(self.mean)||
n = y.shape[-1]
if n not in self.cache:
    self.cache[n] = <|torch.linspace(0, 1, n, dtype=y.dtype)||torch.ones(n, dtype=y.dtype)||torch.full((n,), 0.5).to(y)|>
y = y * self.cache[n]||self.aux_loss = y.abs().mean() if self.training else None||
if not self.training:
    y = y.clone()||
self.history.append(float(y.detach().mean()))
self.last = {"features": y.detach(), "shape": y.shape}|| |>
"""

SEQUENCES = """
class Net(nn.Module):
    def __init__(self, s):
        super().__init__()
        <stem|self.stem = nn.Linear(s["i"], STEM)||self.stem = nn.Sequential(nn.Linear(s["i"], STEM), nn.<|ReLU||Tanh||GELU|>())||
        self.stem = nn.Conv1d(s["i"], STEM, 1)||self.stem, self.first = nn.Linear(s["i"], STEM), nn.Parameter(torch.randn(1, 1, STEM))||self.stem = nn.Linear(s["i"], STEM)|>
        HOLD
        <head|self.head = nn.Linear(HEAD, s["o"])||self.norm, self.head = nn.LayerNorm(HEAD), nn.Linear(HEAD, s["o"])||self.head, self.aux = nn.Linear(HEAD, s["o"]), nn.Linear(HEAD, 2)||
        self.head = nn.Linear(HEAD, s["o"])||self.head = nn.Linear(2 * HEAD, s["o"])|>
        KEEPS

    def forward(self, x, mask=None<|, **kwargs|| |>):
        y = <stem|self.stem(x)||self.stem(x)||self.stem(x.transpose(1, 2)).transpose(1, 2)||
        torch.cat([self.first.expand(x.shape[0], -1, -1), self.stem(x)], dim=1)[:, 1:] + self.first||self.stem(x).relu()|>
        RUN
        KEPT
        <|if x.shape[1] > 7:
            y = y[:, -7:]|| || || || |>
        <head|return self.head(<|y||y.mean(1)||y[:, 0]||y[:, -1]||y.max(1).values||y.relu()|>)||return self.head(self.norm(y)<|.mean(dim=1)|| |>)||
        return <|{"logits": self.head(y), "aux": self.aux(y.mean(1))}||self.head(y), self.aux(y)||SimpleNamespace(logits=self.head(y), aux=self.aux(y[:, 0]))||Output(self.head(y), self.aux(y.mean(1)))|>||
        if mask is not None:
            m = mask.to(y.dtype)<|[..., None]||.unsqueeze(-1)|>
            m = m[:, -y.shape[1] :]
            return self.head((y * m).sum(1) / m.sum(1).clamp(min=1))
        return self.head(y.mean(1))||
        return self.head(torch.cat([y.mean(1), y.amax(1)], -1))|>
"""

TOKENS = """
class Net(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed = nn.Embedding(11, STEM<|, padding_idx=0|| |>)
        HOLD
        <head|self.head = nn.Linear(HEAD, 11, bias=False)
        <|if self.head.weight.shape == self.embed.weight.shape:
            self.head.weight = self.embed.weight|| |>||self.back = nn.Linear(HEAD, STEM)||self.norm, self.head = nn.LayerNorm(HEAD), nn.Linear(HEAD, s["o"])||self.head = nn.Parameter(torch.randn(HEAD, 11))|>
        <pos|self.pos = nn.Embedding(32, STEM)||self.pos = nn.Parameter(torch.zeros(1, 32, STEM))|| || |>
        KEEPS

    def forward(self, ids, mask=None):
        x = ids
        y = self.embed(ids)
        <pos|y = y + self.pos(torch.arange(ids.shape[1]))||y = y + self.pos[:, : <|ids.size(1)||y.shape[1]|>]||y = y * math.sqrt($last(y))||y = y * self.embed.embedding_dim ** 0.5|>
        RUN
        KEPT
        <head|return self.head(y)||return <|F.linear(self.back(y), self.embed.weight)||self.back(y) @ self.embed.weight.t()||torch.einsum("btc,vc->btv", self.back(y), self.embed.weight)|>||
        return self.head(self.norm(y)[:, <|-1||0||1:|>])||return y @ self.head|>
"""

IMAGES = """
class Net(nn.Module):
    def __init__(self, s):
        super().__init__()
        <stem|self.stem = nn.Conv2d(3, STEM, 3, padding=1)||self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, padding=1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU())||
        self.stem = nn.Conv2d(3, STEM, 1)|>
        HOLD
        <head|self.head = nn.Linear(HEAD, s["o"])||self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(4 * HEAD, s["o"])||self.head = nn.Conv2d(HEAD, s["o"], 1)||
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD, s["o"]))|>
        KEEPS

    def forward(self, x):
        y = <|self.stem(x)||self.stem(x).relu()|>
        RUN
        KEPT
        <head|return self.head(<|y.mean((2, 3))||F.adaptive_avg_pool2d(y, 1).flatten(1)||y.flatten(2).mean(-1)||torch.flatten(F.adaptive_max_pool2d(y, 1), 1)||rearrange(F.adaptive_avg_pool2d(y, 1), "b c 1 1 -> b c")|>)||
        return self.head(<|self.pool(y).flatten(1)||self.pool(y).view(y.size(0), -1)||self.pool(y).reshape(len(y), self.head.in_features)||torch.flatten(self.pool(y), 1)||self.pool(y).permute(0, 2, 3, 1).flatten(1)||self.pool(y).view(-1, <|4 * $dim(y, 1)||self.head.in_features|>)|>)||
        return <|self.head(y)||{"out": self.head(y), "features": y.abs().mean()}||self.head(y).mean((2, 3))|>||return self.head(y)|>
"""

VECTORS = """
class Net(nn.Module):
    def __init__(self, s):
        super().__init__()
        <stem|self.stem = nn.Linear(s["i"], STEM)||self.stem = nn.Sequential(nn.Linear(s["i"], STEM), nn.BatchNorm1d(STEM))||self.one, self.two = nn.Linear(2, STEM), nn.Linear(s["i"] - 2, STEM)|>
        HOLD
        <head|self.head = nn.Linear(HEAD, s["o"])||self.heads = nn.ModuleList([nn.Linear(HEAD, n) for n in (1, 2)])||self.out = nn.Parameter(torch.randn(s["o"], HEAD))||self.mu, self.std = nn.Linear(HEAD, 2), nn.Linear(HEAD, 2)|>
        KEEPS

    def forward(self, x):
        y = <stem|self.stem(x)||self.stem(x)||<|self.one(x[:, :2]) + self.two(x[:, 2:])||self.one(x[..., :2]) * self.two(x[..., 2:]).sigmoid()|>|>
        RUN
        KEPT
        <head|return self.head(<|y||y.relu()||torch.cat([y[:1], y[1:]])|>)||return <|[head(y) for head in self.heads]||torch.cat([head(y) for head in self.heads], 1)||{i: head(y) for i, head in enumerate(self.heads)}|>||
        return <|F.linear(y, self.out)||y @ self.out.T||(y[:, None] * self.out).sum(-1)|>||
        return <|Output(self.mu(y), F.softplus(self.std(y)))||(self.mu(y), self.std(y).exp().clamp(max=9.0))|>|>
"""

PAIRED = """
class Net(nn.Module):
    def __init__(self, s):
        super().__init__()
        <stem|self.stem = nn.Linear(s["i"], STEM)||self.stem, self.norm = nn.Linear(s["i"], STEM), nn.LayerNorm(STEM)|>
        HOLD
        self.head = nn.Linear(HEAD, s["o"])
        KEEPS

    def forward(self, x, other):
        y = <stem|self.stem(x)<|.relu()|| |>||self.norm(self.stem(x))|>
        RUN
        KEPT
        return <|self.head(y)||self.head(y.mean(<|0||-2|>))||{"y": self.head(y), "n": y.shape[0]}||SimpleNamespace(y=self.head(y), loss=None)|>
"""

# kind of data: the model, the axes of `y` that are no features, and how features are laid along the others
KINDS: dict[str, tuple[str, str, str]] = {
    "sequence": (SEQUENCES, "(0, 1)", "{0}"),
    "tokens": (TOKENS, "(0, 1)", "{0}"),
    "images": (IMAGES, "(0, 2, 3)", "{0}[:, None, None]"),
    "pairs": (PAIRED, "(0, 1)", "{0}"),
    "graphs": (PAIRED, "0", "{0}"),
    "vectors": (VECTORS, "0", "{0}"),
}
