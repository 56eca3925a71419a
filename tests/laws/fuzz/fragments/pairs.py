"""Pieces with a second input: (batch, positions, features) beside another sequence, and nodes beside edges."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

CROSS = """
class NAME(nn.Module):
    INIT(c, heads, d)
        self.q, self.kv, self.proj = nn.Linear(c, heads * d), <how|nn.Linear(4, 2 * heads * d)||nn.ModuleList([nn.Linear(4, heads * d) for _ in range(2)])|>, nn.Linear(heads * d, c)
        <scale| || ||self.scale = d ** -0.5|| || |>

    def forward(self, x, other, mask=None):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, @heads, <|@d||-1|>).transpose(1, 2)
        <how|<|k, v = self.kv(other).view(b, -1, 2, @heads, @d).permute(2, 0, 3, 1, 4)||
        k, v = (z.unflatten(-1, (@heads, @d)).transpose(1, 2) for z in self.kv(other).chunk(2, dim=-1))||
        k, v = rearrange(self.kv(other), "b s (n h d) -> n b h s d", n=2, h=@heads)|>||
        k, v = (f(other).view(b, other.shape[1], @heads, -1).transpose(1, 2) for f in self.kv)|>
        <|scores = q @ k.transpose(-1, -2) <scale|* @d ** -0.5 || / math.sqrt($last(q)) || * self.scale || / q.shape[-1] ** 0.5 || * 0.5|>
        y = scores.softmax(-1) @ v||y = F.scaled_dot_product_attention(q, k, v)||
        y = torch.einsum("bhts,bhsd->bhtd", torch.einsum("bhtd,bhsd->bhts", q, k).softmax(-1), v)|>
        $merge()
        return x + self.proj(y)
"""

GATED = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g, self.out = nn.Linear(c, m), nn.Linear(4, <n|m||2 * m||c|>), nn.Linear(<n|m||m||m + c|>, c)

    def forward(self, x, other):
        s = self.g(<|other.mean(1)||other[:, 0]||other.amax(dim=1)||other.sum(1) / other.shape[1]|>)<|[:, None]||.unsqueeze(1)|>
        <n|y = self.f(x) * s.sigmoid()||
        a, b = <|s.chunk(2, -1)||s.split(<|@m||self.out.in_features||self.f.out_features|>, -1)||(s[..., : @m], s[..., @m :])|>
        y = self.f(x) * (1 + a) + b||
        y = torch.cat([self.f(x), s.expand(-1, x.shape[1], -1)], -1)|>
        return x + self.out(y.relu())
"""

JOINED = """
class NAME(nn.Module):
    INIT(c, m)
        self.embed, self.f, self.g = nn.Linear(4, c), nn.Linear(c, m), nn.Linear(m, c)
        <how|self.kinds = nn.Embedding(2, c)||self.first = nn.Parameter(torch.zeros(1, 1, c))||self.norm = nn.LayerNorm(c)|>

    def forward(self, x, other):
        n = <|x.shape[1]||x.size(1)|>
        z = self.embed(other)
        <how|z = torch.cat([x + self.kinds.weight[0], z + self.kinds.weight[1]], <|1||dim=1|>)||
        z = torch.cat([self.first.expand(len(x), -1, -1), x, z], 1)[:, 1:]||
        z = self.norm(torch.cat((x, z), dim=1))|>
        z = self.g(self.f(z).relu().cumsum(1))
        <|a, b = z[:, :n], z[:, n:]||a, b = z.split([n, other.shape[1]], dim=1)||a, b = z[:, : -other.size(1)], z[:, -other.size(1) :]|>
        return a + b.mean(1, keepdim=True)
"""

CONVOLVED = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m<|, bias=False|| |>), nn.Linear(m, c)

    def forward(self, x, edges):
        source, target = <|edges||edges[0], edges[1]||edges.unbind(0)|>
        h = self.f(x)
        <|y = torch.zeros_like(h).index_add(0, target, h[source])||
        y = h.new_zeros(<|h.shape||x.size(0), @m||len(x), self.g.in_features|>).scatter_add(0, target[:, None].expand(-1, $last(h)), h[source])||
        a = torch.zeros(len(x), len(x), dtype=x.dtype)
        a[target, source] = 1.0
        y = a @ h||
        y = h.clone()
        y.index_add_(0, target, h.index_select(0, source))||
        y = torch.zeros_like(h).index_reduce(0, target, h[source], "amax")|>
        degree = <|torch.bincount(target, minlength=len(x))||torch.zeros(len(x), dtype=torch.long).index_add(0, target, torch.ones_like(target))|>.clamp(min=1)
        return x + self.g((y / degree<|[:, None]||.unsqueeze(-1)||.view(-1, 1)|>).relu())
"""

ATTENDED = """
class NAME(nn.Module):
    INIT(c, heads, d)
        self.f, self.proj = nn.Linear(c, heads * d, bias=False), nn.Linear(heads * d, c)
        <how|self.a = nn.Parameter(torch.randn(heads, 2 * d))||self.a, self.b = nn.Parameter(torch.randn(1, heads, d)), nn.Parameter(torch.randn(1, heads, d))||self.a = nn.Linear(2 * d, 1)|>

    def forward(self, x, edges):
        source, target = edges
        h = self.f(x).<|view(-1, @heads, @d)||unflatten(-1, (@heads, -1))||view(x.shape[0], @heads, -1)|>
        <how|<|scores = (torch.cat([h[source], h[target]], -1) * self.a).sum(-1)||
        scores = (h[source] * self.a[:, : @d]).sum(-1) + (h[target] * self.a[:, @d :]).sum(-1)||
        left, right = self.a.chunk(2, -1)
        scores = torch.einsum("ehd,hd->eh", h[source], left) + torch.einsum("ehd,hd->eh", h[target], right)|>||
        scores = (h * self.a).sum(-1)[source] + (h * self.b).sum(-1)[target]||
        scores = self.a(torch.cat((h[source], h[target]), dim=-1)).squeeze(-1)|>
        w = F.leaky_relu(scores, 0.2).clamp(max=5).exp()
        total = w.new_zeros(len(x), <|@heads||w.shape[1]||h.size(1)|>).index_add(0, target, w) + 1e-6
        y = torch.zeros_like(h).index_add(0, target, w.unsqueeze(-1) * h[source]) / total[..., None]
        return x + self.proj(<|y.flatten(1)||y.view(len(x), -1)||y.reshape(-1, @heads * @d)||y.view(-1, self.proj.in_features)|>)
"""

PAIRS = [
    Fragment("attention to another", CROSS, {"heads": (2, 3), "d": (2, 4)}),
    Fragment("gated by another", GATED, {"m": (4, 6)}, exact=True),
    Fragment("joined with another", JOINED, {"m": (4, 6)}),
]
GRAPHS = [
    Fragment("messages", CONVOLVED, {"m": (4, 6)}),
    Fragment("attention along edges", ATTENDED, {"heads": (2, 3), "d": (2, 4)}),
]
