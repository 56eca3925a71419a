"""Pieces over (batch, positions, features) that are no attention."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

HIDDEN = {"m": (6, 8, 10, 14)}

MLP = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)||
        self.f, self.g = nn.Linear(c, m, bias=False), nn.Linear(m, c)||
        self.net = nn.Sequential(nn.Linear(c, m), nn.<|ReLU||GELU||SiLU||Tanh|>(), nn.Linear(m, c))||
        self.net = nn.ModuleList([nn.Linear(c, m), nn.Linear(m, m), nn.Linear(m, c)])||
        self.w, self.b, self.u = nn.Parameter(torch.randn(m, c)), nn.Parameter(torch.randn(m)), nn.Parameter(torch.randn(c, m))||
        self.layers = nn.ModuleDict({"up": nn.Linear(c, m), "down": nn.Linear(m, c)})||
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.act = <|partial(F.leaky_relu, negative_slope=0.2)||lambda z: z.relu()||getattr(F, "gelu")|>||
        self.f = nn.Linear(c, m)
        self.g = nn.Linear(self.f.out_features, self.f.in_features)||
        self.p = nn.ParameterDict({"f": torch.randn(m, c), "g": torch.randn(c, m)})||
        self.p = nn.ParameterList([torch.randn(c, m), torch.randn(m, c)])|>

    def forward(self, x, mask=None):
        <how|h = self.f(x)
        return x + self.g($act(h))||
        h = self.f(x)
        h = h[..., : <|@m||self.g.in_features||self.f.out_features|>]
        return self.g($act(h)) + x||
        <|return x + self.net(x)||y = x
        for layer in self.net:
            y = layer(y)
        return y||return x + self.net[1:](self.net[0](x))||return x + self.net[-1](self.net[:-1](x))||
        return self.net[2](nn.Sequential(*list(self.net.children())[:2])(x))|>||
        y = x
        <|for i, layer in enumerate(self.net):
            y = layer(y)
            if i < len(self.net) - 1:
                y = y.relu()
        return y||
        for layer in self.net[:-1]:
            y = layer(y).relu()
        return x + self.net[-1](y)||
        first, *rest = self.net
        y = first(y)
        for layer in rest:
            y = layer(y.tanh())
        return y||
        sizes = [layer.out_features for layer in self.net]
        for layer, size in zip(self.net, sizes):
            y = layer(y)[..., :size].relu()
        return y|>||
        h = F.linear(x, self.w, self.b)
        h = $act(h)
        return <|F.linear(h, self.u)||h @ self.u.t()||torch.einsum("btm,cm->btc", h, self.u)||torch.matmul(h, self.u.mT)|>||
        h = self.layers["up"](x)
        return self.layers["down"]($act(h)) + x||
        return self.g(self.act(self.f(x)))||
        h = self.f(x).view(*x.shape[:-1], <|self.g.in_features||@m||-1|>)
        return self.g(h.relu())||
        return (x @ self.p["f"].T).relu() @ self.p["g"].T||
        return x + torch.relu(x @ self.p[0]) @ self.p[1]|>
"""

GLU = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.f, self.g = nn.Linear(c, 2 * m), nn.Linear(m, c)||
        self.a, self.b, self.g = nn.Linear(c, m), nn.Linear(c, m), nn.Linear(m, c)||
        self.f, self.g = nn.Linear(c, 2 * m), nn.Linear(m, c)|>

    def forward(self, x, mask=None):
        <how|<|a, b = self.f(x).chunk(2, <|dim=-1||-1||2|>)||a, b = self.f(x).split(<|@m||self.g.in_features||self.f.out_features // 2|>, dim=-1)||
        a, b = self.f(x).view(*x.shape[:2], 2, -1).unbind(2)||
        a, b = rearrange(self.f(x), "b t (n m) -> n b t m", n=2)||
        a, b = torch.split(self.f(x), [@m, @m], -1)||
        y = self.f(x)
        a, b = y[..., : @m], y[..., @m :]||
        y = self.f(x)
        half = $half($last(y))
        a, b = y[..., :half], y[..., half:]||
        y = self.f(x)
        n = y.shape[-1]
        a, b = y.narrow(-1, 0, $half(n)), y.narrow(-1, $half(n), $half(n))||
        y = self.f(x)
        a, b = y[..., ::2], y[..., 1::2]|>||
        a, b = self.a(x), self.b(x)||
        a, b = self.f(x).tensor_split(2, -1)|>
        <|h = $gate(a, b)||h = F.glu(torch.cat([a, b], -1), dim=-1)|>
        return <|x + self.g(h)||self.g(h)|>
"""

NORMED = """
class NAME(nn.Module):
    INIT(c, m)
        <kind|self.norm = $norm(c)||self.w = nn.Parameter(torch.ones(c))||self.w, self.b = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))||
        self.register_parameter("w", nn.Parameter(torch.rand(c)))
        self.shape = (c,)|>
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)

    def normed(self, x):
        <kind|return self.norm(x)||return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.w||
        <|mean = x.mean(-1, keepdim=True)
        var = x.var(-1, keepdim=True, unbiased=False)||var, mean = torch.var_mean(x, -1, keepdim=True, correction=0)||
        mean = x.sum(-1, keepdim=True) / $last(x)
        var = (x - mean).square().sum(-1, keepdim=True) / @c|>
        return (x - mean) / (var + 1e-5).sqrt() * self.w + self.b||
        return F.layer_norm(x, <|self.shape||self.w.shape||x.shape[-1:]||(@c,)||[x.size(-1)]|>, self.w)|>

    def forward(self, x, mask=None):
        return <|x + self.g(self.f(self.normed(x)).relu())||self.normed(x + self.g(self.f(x).relu()))|>
"""

POSITIONS = """
<kind| || || || ||def table_NAME(n, c):
    at, i = torch.arange(n).double()[:, None], torch.arange(0, c, 2).double()
    table = torch.zeros(n, c)
    table[:, 0::2], table[:, 1::2] = torch.sin(at / 10 ** (i / c)), torch.cos(at / 10 ** (i / c))
    return table|>

class NAME(nn.Module):
    INIT(c)
        <kind|self.pos = nn.Parameter(torch.randn(1, 32, c))||self.pos = nn.Embedding(32, c)||self.pos = nn.Parameter(torch.randn(32, c))||
        self.pos = nn.Parameter(torch.randn(c, 32))||self.register_buffer("pos", table_NAME(32, c))|>

    def forward(self, x, mask=None):
        t = <|x.shape[1]||x.size(1)|>
        <kind|return x + self.pos[:, <|:t||: x.size(1)||0:t|>]||return x + self.pos(torch.arange(t, device=x.device))||
        return x + self.pos<|[:t]||[None, :t]||[:t].unsqueeze(0)||.narrow(0, 0, t)||.index_select(0, torch.arange(t))|>||return x + self.pos[:, :t].t()||
        return x * math.sqrt(<|@c||x.shape[-1]|>) + self.pos[:t].to(x.dtype)|>
"""

CONV = """
class NAME(nn.Module):
    INIT(c, m, k)
        <how|self.conv = nn.Conv1d(c, c, k, groups=c, padding=k - 1)||self.conv = nn.Conv1d(c, c, k, padding=k // 2)||
        self.w = nn.Parameter(torch.randn(c, k))|>
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)

    def forward(self, x, mask=None):
        t = x.shape[1]
        <how|y = self.conv(x.transpose(1, 2))[..., :t].transpose(1, 2)||
        y = rearrange(self.conv(rearrange(x, "b t c -> b c t")), "b c t -> b t c")||
        <|padded = F.pad(x, (0, 0, @k - 1, 0))
        y = sum(padded[:, i : i + t] * self.w[:, i] for i in range(@k))||
        y = F.conv1d(F.pad(x.mT, (@k - 1, 0)), self.w[:, None], groups=<|@c||self.w.shape[0]||$last(x)|>).mT||
        y = (F.pad(x.transpose(1, 2), (@k - 1, 0)).unfold(2, @k, 1) * self.w[:, None]).sum(-1).transpose(1, 2)|>|>
        return x + self.g($act(self.f(y)))
"""

RECURRENT = """
class NAME(nn.Module):
    INIT(c, m)
        <kind|self.rnn = nn.GRU(c, m, batch_first=True)||self.rnn = nn.LSTM(c, m, batch_first=True)||self.cell = nn.GRUCell(c, m)||
        self.i, self.h = nn.Linear(c, 4 * m), nn.Linear(m, 4 * m, bias=False)||self.i, self.h = nn.Linear(c, m), nn.Linear(m, m)||
        self.i, self.decay = nn.Linear(c, m), nn.Parameter(torch.rand(m))|>
        self.out = nn.Linear(m, c)

    def forward(self, x, mask=None):
        $bt(x)
        <kind|y = self.rnn(x)[0]||y, (h, state) = self.rnn(x)||
        h = x.new_zeros(b, <|@m||self.cell.hidden_size|>)
        y = []
        for i in range(t):
            h = self.cell(x[:, i], h)
            y.append(h)
        y = torch.stack(y, dim=1)||
        h = s = <|torch.zeros(b, @m, dtype=x.dtype)||x.new_zeros(b, self.out.in_features)||x.new_zeros((b, @m))|>
        y = []
        for step in x.unbind(1):
            i, f, o, g = <|(self.i(step) + self.h(h)).chunk(4, dim=-1)||(self.i(step) + self.h(h)).view(b, 4, -1).unbind(1)||torch.split(self.i(step) + self.h(h), @m, 1)|>
            s = f.sigmoid() * s + i.sigmoid() * g.tanh()
            h = o.sigmoid() * s.tanh()
            y.append(h[:, None])
        y = torch.cat(y, 1)||
        h, y = None, []
        for i in range(<|t||x.size(1)|>):
            h = torch.tanh(self.i(x[:, i]) + (0 if h is None else self.h(h)))
            y += [h]
        y = torch.stack(y, 1)||
        u, h, y = self.i(x), 0.0, x.new_empty(b, t, <|@m||self.out.in_features||self.decay.numel()|>)
        for i in range(t):
            h = self.decay.sigmoid() * h + u[:, i]
            y[:, i] = h|>
        return x + self.out(y)
"""

EXPERTS = """
class NAME(nn.Module):
    INIT(c, m, n)
        self.router = nn.Linear(c, n)
        <how|self.experts = nn.ModuleList([nn.Sequential(nn.Linear(c, m), nn.ReLU(), nn.Linear(m, c)) for _ in range(n)])||
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(c, m), nn.GELU(), nn.Linear(m, c)) for _ in range(n))||
        self.up, self.down = nn.Parameter(torch.randn(n, c, m)), nn.Parameter(torch.randn(n, m, c))||
        self.up, self.down = nn.Parameter(torch.randn(n, m, c)), nn.Parameter(torch.randn(n, c, m))|>

    def forward(self, x, mask=None):
        share = <|self.router(x).softmax(-1)||F.softmax(self.router(x), dim=-1)|>
        <how|<|y = sum(share[..., i, None] * expert(x) for i, expert in enumerate(self.experts))||
        y = torch.zeros_like(x)
        for i in range(<|len(self.experts)||@n|>):
            y = y + share[..., i : i + 1] * self.experts[i](x)||
        y = (torch.stack([expert(x) for expert in self.experts], -2) * share.unsqueeze(-1)).sum(-2)|>||
        flat = x.reshape(-1, <|@c||$last(x)|>)
        best = share.flatten(0, 1).argmax(-1)
        y = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            rows = (best == i).nonzero(as_tuple=True)[0]
            y<|.index_add_(0, rows, expert(flat[rows]))||[rows] = expert(flat[rows])|>
        y = y.view(x.shape)||
        h = torch.einsum("btc,ncm->btnm", x, self.up).relu()
        y = torch.einsum("btnm,nmc,btn->btc", h, self.down, share)||
        h = F.gelu(torch.einsum("btc,nmc->bntm", x, self.up))
        y = (torch.einsum("bntm,ncm->bntc", h, self.down) * share.permute(0, 2, 1)[..., None]).sum(1)|>
        return x + y
"""

BRANCHES = """
class NAME(nn.Module):
    INIT(c, m, n)
        self.branches = nn.ModuleList([nn.Linear(c, m) for _ in range(n)])
        <how|self.out = nn.Linear(n * m, c)||self.out = nn.Linear(n * m, c)||self.out = nn.Linear(m, c)
        self.weights = nn.Parameter(torch.ones(n))||self.out = nn.Linear(m, c)||self.out = nn.Linear(c + n * m, c)|>

    def forward(self, x, mask=None):
        ys = [<|branch(x).relu()||torch.tanh(branch(x))|> for branch in self.branches]
        <how|return self.out(torch.cat(ys, <|-1||dim=-1||dim=2|>))||
        y = torch.cat(ys, -1)
        first, *rest = y.split([branch.out_features for branch in self.branches], dim=-1)
        return x + self.out(torch.cat([*rest, first], -1))||
        w = self.weights.softmax(0)
        return self.out(sum(w[i] * y for i, y in enumerate(ys)))||
        return x + self.out(<|torch.stack(ys).sum(0)||torch.stack(ys, -1).mean(-1)||reduce(torch.add, ys)||reduce(lambda a, b: a * b, ys)|>)||
        y = x
        for one in ys:
            y = torch.cat((y, one), dim=-1)
        return self.out(y)|>
"""

SQUEEZE = """
class NAME(nn.Module):
    INIT(c, r)
        <how|self.f, self.g = nn.Linear(c, r), nn.Linear(r, c)||self.gate = nn.Sequential(nn.Linear(c, r), nn.ReLU(), nn.Linear(r, c), nn.Sigmoid())|>
        <scale|self.gamma = nn.Parameter(torch.ones(c))||self.gamma = nn.Parameter(torch.ones(1, 1, c))||self.gamma = nn.Parameter(1e-1 * torch.ones(<|(c,)||c|>), requires_grad=True)|>

    def forward(self, x, mask=None):
        s = x.mean(<|1||dim=1||-2|>)
        <how|s = torch.sigmoid(self.g(F.relu(self.f(s))))||s = self.gate(s)|>
        y = x * <|s[:, None]||s.unsqueeze(1)||s.view(x.shape[0], 1, <|-1||@c||x.shape[2]|>)||s[:, None, :].expand_as(x)||s[:, None].expand(-1, x.size(1), -1)|>
        return x + y * <scale|<|self.gamma||self.gamma.view(1, 1, -1)||self.gamma[None, None]|>||self.gamma||self.gamma|>
"""

LOWRANK = """
class NAME(nn.Module):
    INIT(c, o, r)
        self.base = nn.Linear(c, o)
        self.a, self.b = <|nn.Parameter(torch.randn(r, c)), nn.Parameter(torch.zeros(o, r))||nn.Parameter(torch.randn(r, c)), nn.Parameter(torch.randn(o, r))|>
        self.scaling = 1 / r

    def forward(self, x, mask=None):
        return <|self.base(x) + (x @ self.a.T @ self.b.T) * self.scaling||self.base(x) + F.linear(F.linear(x, self.a), self.b)||
        F.linear(x, self.base.weight + self.b @ self.a, self.base.bias)|>
"""

SEQUENCE = [
    Fragment("mlp", MLP, HIDDEN, exact=True),
    Fragment("glu", GLU, HIDDEN, exact=True),
    Fragment("norm", NORMED, HIDDEN),
    Fragment("positions", POSITIONS, where="c % 2 == 0"),
    Fragment("convolution over positions", CONV, {**HIDDEN, "k": (3,)}, exact=True),
    Fragment("recurrence", RECURRENT, {"m": (4, 5, 6)}, exact=True),
    Fragment("experts", EXPERTS, {"m": (4, 6), "n": (2, 3)}),
    Fragment("branches", BRANCHES, {"m": (4, 6), "n": (2, 3)}, exact=True),
    Fragment("squeeze over positions", SQUEEZE, {"r": (2, 4)}, exact=True),
    Fragment("low rank", LOWRANK, {"o": (6, 8), "r": (2, 3)}, out="o", exact=True),
]
