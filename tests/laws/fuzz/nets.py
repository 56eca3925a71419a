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

# what a model keeps of its forwards, or returns beside its output: (constructor, forward)
ENDS = """
<end|return y|| || || || || || || || || |>
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
        <keep| ||self.loss = 0.0||self.calls, self.seen = 0, []||self.register_buffer("mean", torch.zeros(HEAD))||
        self.register_buffer("steps", torch.tensor(0))||self.mean = None||self.cache = {}||self.aux_loss = None|| || |>

    def forward(self, x, mask=None<|, **kwargs|| |>):
        y = <stem|self.stem(x)||self.stem(x)||self.stem(x.transpose(1, 2)).transpose(1, 2)||
        torch.cat([self.first.expand(x.shape[0], -1, -1), self.stem(x)], dim=1)[:, 1:] + self.first||self.stem(x).relu()|>
        RUN
        <keep| ||self.loss = y.pow(2).mean()||self.calls += 1
        self.seen.append(self.calls)||
        if self.training:
            <|self.mean.mul_(0.9).add_(0.1 * y.detach().mean((0, 1)))||self.mean = 0.9 * self.mean + 0.1 * y.detach().mean((0, 1))||
            with torch.no_grad():
                self.mean.lerp_(y.mean(dim=(0, 1)), 0.1)|>
        y = y - self.mean||
        if self.training:
            self.steps += 1
        y = y * (1 + 0.1 * self.steps)||
        now = y.detach().mean((0, 1))
        self.mean = now if self.mean is None else 0.5 * self.mean + 0.5 * now
        y = y - self.mean||
        n = y.shape[1]
        if n not in self.cache:
            self.cache[n] = <|torch.linspace(0, 1, n, dtype=y.dtype)[:, None]||torch.ones(n, $last(y), dtype=y.dtype)||torch.tril(torch.ones(n, n, dtype=y.dtype)) / n|>
        y = <|y * self.cache[n] if self.cache[n].shape[0] != self.cache[n].shape[1] else self.cache[n] @ y||y + self.cache[n].sum(-1, keepdim=True)|>||
        self.aux_loss = y.abs().mean() if self.training else None||
        if not self.training:
            y = y.clone()||
        if x.shape[1] > 7:
            y = y[:, -7:]|>
        <head|return self.head(<|y||y.mean(1)||y[:, 0]||y[:, -1]||y.max(1).values||y.relu()|>)||return self.head(self.norm(y)<|.mean(dim=1)|| |>)||
        return <|{"logits": self.head(y), "aux": self.aux(y.mean(1))}||self.head(y), self.aux(y)||SimpleNamespace(logits=self.head(y), aux=self.aux(y[:, 0]))||Output(self.head(y), self.aux(y.mean(1)))|>||
        if mask is not None:
            m = mask.to(y.dtype)<|[..., None]||.unsqueeze(-1)|>
            m = m[:, -y.shape[1] :]
            return self.head((y * m).sum(1) / m.sum(1).clamp(min=1))
        return self.head(y.mean(1))||
        return self.head(torch.cat([y.mean(1), y.amax(1)], -1))|>
"""

KINDS: dict[str, str] = {"sequence": SEQUENCES}
