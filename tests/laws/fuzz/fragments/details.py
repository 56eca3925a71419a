"""Pieces for any data before the features, each with one detail of real code that has misled somebody."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

PRENORM = """
class Normed_NAME(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(dim), fn

    def forward(self, x, **kwargs):
        return self.fn(self.norm(x), **kwargs)

class Feed_NAME(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, dim))

    def forward(self, x, scale=1.0):
        return self.net(x) * scale

class NAME(nn.Module):
    INIT(c, m, n)
        self.layers = nn.ModuleList([])
        for _ in range(n):
            self.layers.append(nn.ModuleList([Normed_NAME(c, Feed_NAME(c, m)), Normed_NAME(c, Feed_NAME(c, m + 2))]))

    def forward(self, x, mask=None):
        for <|one, two in self.layers||i, (one, two) in enumerate(self.layers)|>:
            x = one(x, scale=0.5) + x
            x = two(x) + x
        return x
"""

MASKED = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        <how|self.register_buffer("mask", (torch.arange(m)[:, None] % 3 >= torch.arange(c) % 3).double())||self.register_buffer("mask", torch.tril(torch.ones(m, c)))||
        self.register_buffer("mask", torch.ones(m))||self.mask = torch.ones(m, c, dtype=torch.float64)|>

    def forward(self, x, mask=None):
        <how|h = F.linear(x, self.f.weight * self.mask, self.f.bias)||h = F.linear(x, self.mask * self.f.weight, self.f.bias)||h = self.f(x) * self.mask||h = F.linear(x, self.f.weight.mul(self.mask))|>
        return x + self.g(h.relu())
"""

TOP = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)

    def forward(self, x, mask=None):
        h = self.f(x)
        <|k = <|max(1, h.shape[-1] // 4)||h.size(-1) // 2||2|>
        least = h.topk(k, dim=-1).values<|[..., -1:]||.min(-1, keepdim=True).values||.amin(-1, keepdim=True)|>
        h = torch.where(h >= least, h, torch.zeros_like(h))||
        h = h * F.one_hot(h.argmax(-1), <|@m||h.shape[-1]||self.f.out_features|>).to(h.dtype)||
        h = h.sort(dim=-1, descending=True).values.cumsum(-1)||
        h = h * (h > h.median(-1, keepdim=True).values)||
        h = h.softmax(-1) * <|@m||h.shape[-1]|>||
        h = h - torch.logsumexp(h, -1, keepdim=True)|>
        return x + self.g(h)
"""

COUNTED = """
<how|def flat_NAME(x):
    n = 1
    for size in x.size()[1:]:
        n *= size
    return n|| || || || |>

class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        <how| || || ||self.shape = torch.Size((m,))||self.total = m * c|>

    def forward(self, x, mask=None):
        h = self.f(x)
        <how|flat = h.reshape(-1, $last(h))
        h = flat.view(-1, flat_NAME(flat)).view(h.shape)||
        h = h.flatten(0, -2)
        h = h.view(len(h), math.prod(h.shape[1:])).view(*x.shape[:-1], -1)||
        h = h.view(-1, h.numel() // math.prod(x.shape[:-1])).view_as(h)||
        h = h.view(*x.shape[:-1], *self.shape)||
        h = h.view(*x.shape[:-1], self.total // <|@c||x.shape[-1]|>)|>
        return self.g(h.relu()) <|/ math.sqrt(<|@m||h.shape[-1]||self.g.in_features|>)||* (1 / <|@m||$last(h)|>)||* $last(h) ** -0.5|>
"""

INLINE = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)

    def forward(self, x, mask=None):
        h = <|nn.ReLU()(self.f(x))||nn.Softmax(dim=-1)(self.f(x))||nn.Sequential(self.f, nn.Tanh())(x)||(lambda z: z.relu())(self.f(x))||nn.Identity()(self.f(x))|>
        <|if (n := h.shape[-1]) > 0:
            h = h.view(*h.shape[:-1], n)||
        h = {"h": h, **{}}["h"]||h, *_ = (h, None, None)||
        parts = {}
        parts["h"], parts["x"] = h, x
        h = parts.pop("h")||
        for f in (torch.tanh, partial(F.leaky_relu, negative_slope=0.1), lambda z: z * 2):
            h = f(h)||
        def run(*args, **kwargs):
            return self.g.__class__.__name__ and args[0] * kwargs.get("scale", 1.0)
        h = run(h, scale=0.5)||
        h = (h if h.dim() > 1 else h[None])||
        try:
            h = h.view(*h.shape[:-1], 2, -1).flatten(-2)
        except RuntimeError:
            pass||
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            h = h.square()|>
        return x + self.g(h)
"""

FEATUREWISE = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        <how|self.curves = nn.Parameter(torch.randn(m, 3))||self.a, self.b = nn.Parameter(torch.randn(m)), nn.Parameter(torch.randn(m))||self.one = nn.ModuleList([nn.Linear(1, 1) for _ in range(m)])||
        self.log = nn.Parameter(torch.log(torch.arange(1, m + 1).double()))||self.register_buffer("eye", torch.eye(m))|>

    def forward(self, x, mask=None):
        h = self.f(x)
        <how|h = sum(self.curves[:, i] * h.tanh() ** i for i in range(<|3||self.curves.shape[1]|>))||
        h = <|torch.stack([h[..., i] * self.a[i] + self.b[i] for i in range(<|@m||h.shape[-1]||len(self.a)|>)], -1)||h * self.a + self.b||torch.addcmul(self.b, h, self.a)|>||
        h = torch.cat([one(h[..., i : i + 1]) for i, one in enumerate(self.one)], -1)||
        h = h * torch.exp(-self.log.exp())||
        h = h @ self.eye<| + h @ torch.eye(<|@m||h.size(-1)|>, dtype=h.dtype)|| |>|>
        return x + self.g(h)
"""

OPTIONAL = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        <how|self.kind = nn.Embedding(2, c)||self.token = nn.Parameter(torch.randn(c))||self.scale = nn.Linear(1, m)||self.extra = nn.Linear(m, c)||self.noise = nn.Linear(c, m, bias=False)|>

    def forward(self, x, mask=None):
        given = mask is not None and mask.dtype == torch.bool and mask.shape == x.shape[:-1]
        <how|if given:
            x = x + self.kind(mask.long())||if given:
            x = torch.where(mask[..., None], x, self.token)|| || || |>
        h = self.f(x)
        <how| || ||if given:
            h = h * self.scale(mask.to(x.dtype)[..., None]).sigmoid()||
        if given and not mask.all():
            return x + self.extra(h)||
        if self.training:
            h = h + self.noise(x).tanh()|>
        return x + self.g(h.relu())
"""

M = {"m": (4, 6, 8)}
DETAILS = [
    Fragment("wrapped layers", PRENORM, {"m": (4, 6), "n": (1, 2)}),
    Fragment("masked weights", MASKED, {"m": (6, 9)}),
    Fragment("largest features", TOP, {"m": (6, 8)}),
    # a square layer that the example leaves out cannot be told from another of its shapes
    Fragment("optional parameters", OPTIONAL, {"m": (4, 6)}, "m != c"),
    Fragment("counted features", COUNTED, M),
    Fragment("made in the forward", INLINE, M),
    Fragment("feature by feature", FEATUREWISE, {"m": (4, 6)}),
]
