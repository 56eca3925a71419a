"""Pieces that work on any dimensions before the features: parts of features, structured weights, conditions."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

PARTIAL = """
class NAME(nn.Module):
    INIT(c, m)
        self.f = nn.Linear(c, m)
        <how|self.part = m // 2||self.n = m // 4||self.part, self.rest = m // 2, m - m // 2|>
        self.h = nn.Linear(<how|self.part, self.part||m // 4, m // 4||self.part, self.part|>)
        self.g = nn.Linear(m, c)

    def forward(self, x, mask=None):
        y = self.f(x)
        <how|<|a, b = y[..., : self.part], y[..., self.part :]||a, b = y[..., : self.h.in_features], y[..., self.h.in_features :]||
        a, b = y.split([self.part, @m - self.part], -1)||a, b = torch.split(y, (self.part, y.shape[-1] - self.part), dim=-1)||
        a = y[..., : self.part]
        b = y[..., -(y.size(-1) - self.part) :]|>
        y = torch.cat([self.h(a).relu(), b], -1)||
        <|a, b = y[..., : self.n], y[..., self.n :]||n = y.shape[-1] // 4
        a, b = y[..., :n], y[..., n:]||n = int(y.shape[-1] * 0.25)
        a, b = y[..., :n], y[..., n:]||a, *b = y.chunk(4, -1)
        b = torch.cat(b, -1)|>
        y = torch.cat((b, self.h(a)), dim=-1)||
        a, b = torch.split(y, [self.part, self.rest], dim=-1)
        y = torch.cat([self.h(a.tanh()), b], dim=-1)|>
        return x + self.g(y.relu())
"""

SLICED = """
class NAME(nn.Module):
    INIT(c, a, b)
        self.f = nn.Linear(c, a + 2 * b)
        self.g, self.h = nn.Linear(a, c), nn.Linear(b, c)
        <how| ||self.ends = [a, a + b, a + 2 * b]||self.sizes = (a, b, b)||self.parts = {"p": slice(0, a), "q": slice(a, a + b), "r": slice(a + b, a + 2 * b)}|>

    def forward(self, x, mask=None):
        y = self.f(x)
        <how|<|p, q, r = y[..., : @a], y[..., @a : @a + @b], y[..., @a + @b :]||
        p, q, r = y.narrow(-1, 0, @a), y.narrow(-1, @a, @b), y.narrow(-1, @a + @b, @b)||
        at = 0
        parts = []
        for n in (@a, @b, @b):
            parts.append(y[..., at : at + n])
            at += n
        p, q, r = parts||
        p, rest = y[..., : self.g.in_features], y[..., self.g.in_features :]
        q, r = rest.chunk(2, -1)||
        p, q, r = y[..., : -2 * @b], y[..., -2 * @b : -@b], y[..., -@b :]||
        p, q, r = y.split((@a, @b, @b), -1)|>||
        p, q, r = <|y[..., : self.ends[0]], y[..., self.ends[0] : self.ends[1]], y[..., self.ends[1] : self.ends[2]]||y.tensor_split(self.ends[:2], dim=-1)|>||
        p, q, r = <|y.split(list(self.sizes), dim=-1)||torch.split(y, self.sizes, -1)|>||
        p, q, r = (y[..., self.parts[key]] for key in "pqr")|>
        return x + self.g(p.relu()) + self.h($gate(q, r))
"""

BLOCKS = """
class NAME(nn.Module):
    INIT(c, n, m)
        self.f, self.g = nn.Linear(c, n * m), nn.Linear(n * m, c)
        <how|self.w = nn.Parameter(torch.randn(n, m, m))||self.a, self.b = nn.Parameter(torch.randn(n, m, m)), nn.Parameter(torch.randn(m, n, n))||
        self.mix = nn.Linear(n, n)||self.norm = nn.LayerNorm(m)||self.scale = nn.Parameter(torch.ones(n, 1))|>

    def forward(self, x, mask=None):
        y = self.f(x)
        y = <|y.unflatten(-1, (@n, <|@m||-1|>))||y.view(*x.shape[:-1], @n, <|@m||-1|>)||y.reshape(x.shape[:-1] + (@n, @m))||rearrange(y, "... (n m) -> ... n m", n=@n)|>
        <how|y = <|torch.einsum("...ni,nio->...no", y, self.w)||(y.unsqueeze(-2) @ self.w).squeeze(-2)||torch.stack([y[..., i, :] @ self.w[i] for i in range(<|@n||y.shape[-2]||len(self.w)|>)], -2)|>||
        y = torch.einsum("...nm,nmk->...nk", y, self.a)
        y = torch.einsum("...nk,knl->...lk", y, self.b)||
        y = self.mix(y.transpose(-1, -2)).transpose(-1, -2)||
        y = self.norm(y)||
        y = y * self.scale <|+ y.flip(-2)||- y.mean(-2, keepdim=True)||/ (1 + y.norm(dim=-1, keepdim=True))|>|>
        return x + self.g(y.<|flatten(-2)||reshape(*x.shape[:-1], -1)||reshape(*x.shape[:-1], @n * @m)||flatten(start_dim=-2)|>.relu())
"""

FILM = """
class NAME(nn.Module):
    INIT(c, m)
        self.cond = nn.Sequential(nn.SiLU(), nn.Linear(c, <n|2||3||6|> * m))
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.norm = nn.LayerNorm(m, elementwise_affine=False)

    def forward(self, x, mask=None):
        s = self.cond(<|x||x.mean(0, keepdim=True)|>)
        <n|<|scale, shift = s.chunk(2, -1)||scale, shift = s.split(<|@m||self.g.in_features||s.shape[-1] // 2|>, dim=-1)||scale, shift = s.unflatten(-1, (2, -1)).unbind(-2)|>
        h = self.norm(self.f(x)) * (1 + scale) + shift||
        <|scale, shift, gate = s.chunk(3, dim=-1)||scale, shift, gate = rearrange(s, "... (n m) -> n ... m", n=3)||scale, shift, gate = torch.split(s, [@m] * 3, -1)|>
        h = torch.addcmul(shift, self.norm(self.f(x)), scale + 1) * gate||
        parts = <|s.chunk(6, dim=-1)||s.tensor_split(6, dim=-1)||[s[..., i * @m : (i + 1) * @m] for i in range(6)]|>
        h = self.f(x)
        for scale, shift, gate in (parts[:3], parts[3:]):
            h = h + gate * (self.norm(h) * (1 + scale) + shift)|>
        return x + self.g(h)
"""

WAVES = """
class NAME(nn.Module):
    INIT(c, m)
        self.register_buffer("freq", torch.randn(c, m))
        self.out = nn.Linear(2 * m, c)

    def forward(self, x, mask=None):
        z = <|x @ self.freq||2 * math.pi * x @ self.freq||torch.einsum("...c,cm->...m", x, self.freq)|>
        return x + self.out(<|torch.cat([z.sin(), z.cos()], -1)||torch.stack([z.sin(), z.cos()], -2).flatten(-2)||torch.cat((torch.sin(z), torch.cos(z)), dim=-1)|>)
"""

COUPLED = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c // 2, m), nn.Linear(m, c - c // 2)
        self.logdet = 0.0

    def forward(self, x, mask=None):
        <|a, b = x.chunk(2, -1)||half = $half($last(x))
        a, b = x[..., :half], x[..., half:]||a, b = x.split([self.f.in_features, self.g.out_features], -1)||a, b = x[..., : @c // 2], x[..., @c // 2 :]|>
        s = self.g(self.f(a).tanh()).tanh()
        self.logdet = s.sum(-1)
        return torch.cat(<|[a, b * s.exp()]||(b * s.exp(), a)|>, -1)
"""

INHERITED = """
class Base_NAME(nn.Module):
    def forward(self, x, mask=None):
        y = self.before(x)
        return x + self.after(self.inside(y))

    def before(self, x):
        return x

    @staticmethod
    def halves(y):
        return <|y.chunk(2, dim=-1)||(y[..., : y.shape[-1] // 2], y[..., y.shape[-1] // 2 :])|>

class NAME(Base_NAME):
    scale = 0.5

    INIT(c, m)
        self.f, self.after = nn.Linear(c, 2 * m), nn.Linear(m, c)

    def inside(self, y):
        a, b = self.halves(self.f(y))
        return a * b.sigmoid() * self.scale

    <|def forward(self, x, mask=None):
        return super().forward(x, mask) * 0.5||def before(self, x):
        return super().before(x).tanh()|| |>
"""

SHARED = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.f, self.g = nn.Linear(c, m, bias=False), nn.Linear(m, c, bias=False)
        self.g.weight = nn.Parameter(self.f.weight.detach().t().clone())||self.f = nn.Linear(c, m, bias=False)||
        self.f = nn.Linear(c, m)
        self.bias = nn.Parameter(torch.zeros(c))||cell = nn.Linear(c, c)
        self.cells = nn.ModuleList([cell, nn.Linear(c, c), cell])||self.f, self.g = nn.Linear(c, m), nn.Linear(c, m)
        self.g.weight = self.f.weight
        self.out = nn.Linear(m, c)|>

    def forward(self, x, mask=None):
        <how|return x + self.g(self.f(x).relu())||
        return <|F.linear(self.f(x).relu(), self.f.weight.t())||self.f(x).relu() @ self.f.weight||torch.einsum("...m,mc->...c", self.f(x).relu(), self.f.weight)|>||
        return F.linear(self.f(x).tanh(), self.f.weight.T, self.bias)||
        for cell in self.cells:
            x = x + cell(x).tanh()
        return x||
        return x + self.out(self.f(x).sigmoid() * self.g(x))|>
"""

GENERATED = """
class NAME(nn.Module):
    INIT(c, m)
        self.make, self.f, self.g = nn.Linear(c, m * m), nn.Linear(c, m), nn.Linear(m, c)

    def forward(self, x, mask=None):
        w = self.make(x.tanh())
        w = <|w.view(*x.shape[:-1], @m, @m)||w.unflatten(-1, (@m, -1))||w.reshape(x.shape[:-1] + (self.f.out_features, self.g.in_features))|>
        h = self.f(x)
        h = <|(w @ h.unsqueeze(-1)).squeeze(-1)||torch.einsum("...ij,...j->...i", w, h)||(w * h[..., None, :]).sum(-1)||torch.matmul(w, h[..., None])[..., 0]|>
        return x + self.g(h)
"""

MIXED = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.f = nn.Linear(c, m)
        self.layers = [nn.ReLU(), nn.Tanh()]
        self.g = nn.Linear(m, c)||self.f, self.g = nn.Bilinear(c, c, m), nn.Linear(m, c)||self.f, self.g = nn.Linear(c, 2 * m), nn.Linear(m, c)
        self.glu = nn.GLU(dim=-1)||self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.shape = nn.Unflatten(-1, (2, m // 2))||self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.lengths = nn.Parameter(torch.rand(()))|>

    def forward(self, x, mask=None):
        h = self.f(x<how| ||, x.tanh()|| || || |>)
        <how|for layer in self.layers:
            h = layer(h)||h = h.relu()||h = self.glu(h)||h = self.shape(h).softmax(-2).flatten(-2)||
        h = h / h.norm(dim=-1, keepdim=True).clamp(min=1e-3) * self.lengths.exp()|>
        return self.g(h) + x
"""

WRITTEN = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.bias = nn.Parameter(torch.zeros(m))

    def forward(self, x, mask=None):
        <|h = torch.zeros(*x.shape[:-1], <|@m||self.g.in_features||self.bias.numel()||len(self.bias)|>, dtype=x.dtype)
        h += self.f(x)||h = self.f(x)
        h += self.bias||h = torch.empty_like(self.f(x))
        h.copy_(self.f(x))||h = x.new_full((*x.shape[:-1], @m), 0.5)
        h = h + self.f(x)||h = self.f(x)
        h = torch.add(h, self.bias.expand_as(h))||h = self.bias.expand(*x.shape[:-1], <|-1||@m|>) + self.f(x)||
        h = self.f(x) + torch.broadcast_to(self.bias, (*x.shape[:-1], @m))||h = self.f(x) + self.bias.repeat(*x.shape[:-1], 1)|>
        <|h = F.relu_(h)||h = h.clamp_(min=0)||h[h < 0] = 0||h = h.masked_fill(h < 0, 0.0)||h *= 0.5||h = h.relu()|>
        return x + self.g(h)
"""

M = {"m": (4, 6, 8)}
STRUCTURED = [
    Fragment("a part of features", PARTIAL, {"m": (8, 12)}),
    Fragment("three slices", SLICED, {"a": (3, 4, 6), "b": (4, 5)}, exact=True),
    Fragment("blocks of weights", BLOCKS, {"n": (2, 3), "m": (3, 4)}),
    Fragment("conditions", FILM, M),
    Fragment("waves", WAVES, M),
    Fragment("coupling", COUPLED, M, "c % 2 == 0"),
    Fragment("inherited forward", INHERITED, M, exact=True),
    Fragment("shared weights", SHARED, M),
    Fragment("generated weights", GENERATED, {"m": (3, 4)}),
    Fragment("layers of torch", MIXED, M),
    Fragment("in place", WRITTEN, M, exact=True),
]
