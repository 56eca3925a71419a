"""Pieces over (batch, features)."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

LAYERS = """
class NAME(nn.Module):
    INIT(c, m, o)
        <how|dims = [c, m, m, o]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])||
        layers = []
        for a, b in [(c, m), (m, o)]:
            layers += [nn.Linear(a, b), nn.<|BatchNorm1d(b)||LayerNorm(b)||Identity()|>, nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])||
        self.register_parameter("w", nn.Parameter(torch.randn(m, c)))
        self.register_parameter("u", nn.Parameter(torch.randn(m, o)))||
        self.up, self.down = nn.Linear(c, m), nn.Linear(m // 2, o)|>
        self.sizes = [m, o]

    def forward(self, x):
        <how|<|for i, layer in enumerate(self.layers):
            x = layer(x)
            if i + 1 < len(self.layers):
                x = $act(x)
        return x||*body, last = self.layers
        for layer in body:
            x = F.dropout(layer(x).relu(), 0.1, self.training)
        return last(x)||return reduce(lambda z, layer: layer(z).tanh(), self.layers, x)|>||
        return self.net(x)||
        return <|x @ self.w.t() @ self.u||torch.mm(torch.mm(x, self.w.T).relu(), self.u)||torch.addmm(torch.zeros(<|@o||self.u.size(1)|>, dtype=x.dtype), x @ self.w.T, self.u)||
        torch.einsum("bc,mc,mo->bo", x, self.w, self.u)|>||
        h = self.up(x)
        <|a, b = h.chunk(2, 1)||a, b = h[:, : @m // 2], h[:, @m // 2 :]||n = self.down.in_features
        a, b = h[:, :n], h[:, n : 2 * n]||a, b = h.split([$half(@m), $half(@m)], dim=1)||a, b = h.view(-1, 2, <|@m // 2||self.down.in_features|>).unbind(1)||a, b = h[:, 0::2], h[:, 1::2]||
        half = h.shape[1] // 2
        a, b = h.narrow(1, 0, half), h.narrow(1, half, h.shape[1] - half)|>
        return self.down(<|torch.maximum(a, b)||a * b.sigmoid()||a + b.tanh()||torch.max(a, b)|>)|>
"""

FACTORS = """
class NAME(nn.Module):
    INIT(c, m, n)
        self.embed = nn.Parameter(torch.randn(c, n, m))
        self.out = nn.Linear(<how|m||n * m||n * (n - 1) // 2||m||n|>, c)

    def forward(self, x):
        v = <|torch.einsum("bc,cnm->bnm", x, self.embed)||(x @ self.embed.flatten(1)).view(len(x), @n, <|@m||self.embed.shape[2]||-1|>)||torch.tensordot(x, self.embed, dims=([1], [0]))|>
        <how|y = v.sum(1).square() - v.square().sum(1)||y = v.flatten(1)||
        i, j = torch.triu_indices(@n, @n, 1)
        y = (v @ v.transpose(1, 2))[:, i, j]||y = v.prod(1)||y = v.norm(dim=-1)|>
        return x + self.out(y)
"""

CODES = """
class NAME(nn.Module):
    INIT(c, m, k)
        self.enc, self.dec = nn.Linear(c, m), nn.Linear(m, c)
        <how|self.codes = nn.Parameter(torch.randn(k, m))||self.codes = nn.Embedding(k, m)||self.register_buffer("codes", torch.randn(k, m))|>
        self.loss = <|0.0||None||torch.tensor(0.0)|>

    def forward(self, x):
        z = self.enc(x)
        codes = <how|self.codes||self.codes.weight||self.codes|>
        far = <|torch.cdist(z, codes)||(z[:, None] - codes).pow(2).sum(-1)||z.pow(2).sum(1, keepdim=True) - 2 * z @ codes.t() + codes.pow(2).sum(1)|>
        best = far.<|argmin(1)||min(dim=1).indices||argmin(dim=-1)|>
        q = <|codes[best]||F.embedding(best, codes)||codes.index_select(0, best)||F.one_hot(best, <|@k||codes.shape[0]|>).to(z.dtype) @ codes|>
        self.loss = F.mse_loss(q, z.detach()) + 0.25 * (q.detach() - z).pow(2).mean()
        return self.dec(z + (q - z).detach())
"""

GAUSS = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.stats, self.dec = nn.Linear(c, 2 * m), nn.Linear(m, c)||self.mu, self.logvar, self.dec = nn.Linear(c, m), nn.Linear(c, m), nn.Linear(m, c)|>
        self.kl = <|0.0||None|>

    def forward(self, x):
        <how|mu, logvar = <|self.stats(x).chunk(2, dim=-1)||torch.split(self.stats(x), <|@m||self.dec.in_features|>, 1)||self.stats(x).unflatten(1, (2, -1)).unbind(1)|>||mu, logvar = self.mu(x), self.logvar(x)|>
        self.kl = <|-0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()||(mu.pow(2) + logvar.exp() - logvar).mean()||{"kl": mu.pow(2).mean(), "width": mu.shape[1]}|>
        z = mu
        if self.training:
            z = mu + <|0.5 * logvar||logvar.tanh()|>
        return x + self.dec(z)
"""

WRITTEN = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.mean, self.std, <flag|self.ready = None, None, False||self.count = None, None, 0|>||self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.register_buffer("mean", torch.zeros(m))
        self.register_buffer("count", torch.zeros(()))||self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.history = []||self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.memory = None||self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.stats = {"n": 0, "last": None}|>

    def forward(self, x):
        h = self.f(x).relu()
        <how|<flag|if not self.ready:||if self.count == 0:|>
            self.mean, self.std = h.detach().mean(0), h.detach().std(0) + 0.1
        <flag|self.ready = True||self.count += 1|>
        h = (h - self.mean) / self.std||
        if self.training:
            <|self.count += 1
            self.mean += (h.detach().mean(0) - self.mean) / self.count||
            self.count.add_(1)
            self.mean.copy_(self.mean + (h.detach().mean(0) - self.mean) / self.count)||
            self.count = self.count + 1
            self.mean = self.mean + (h.detach().mean(0) - self.mean) / self.count|>
        h = h - self.mean||
        self.history.append(h.detach().abs().mean())
        if len(self.history) > 2:
            self.history.pop(0)
        h = h / (1 + sum(self.history))||
        old = h.detach().mean(0) if self.memory is None else self.memory
        self.memory = 0.5 * old + 0.5 * h.detach().mean(0)
        h = h + self.memory||
        self.stats["n"] += 1
        self.stats["last"] = h.detach().mean(0)
        h = h * self.stats["n"] - self.stats["last"]|>
        return x + self.g(h)
"""

HEADS = """
class NAME(nn.Module):
    INIT(c, n, m)
        <how|self.heads = nn.ModuleDict({f"h{i}": nn.Linear(c, m) for i in range(n)})
        self.out = nn.Linear(n * m, c)||self.w = nn.Parameter(torch.randn(n, m, c))
        self.out = nn.Linear(n * m, c)||self.all = nn.Linear(c, n * m)
        self.out = nn.ModuleList([nn.Linear(m, c) for _ in range(n)])||self.all = nn.Linear(c, n * m)
        self.out = nn.Parameter(torch.randn(n, m, c))|>

    def forward(self, x):
        <how|ys = {name: head(x).tanh() for name, head in self.heads.items()}
        return x + self.out(torch.cat(<|list(ys.values())||[ys[name] for name in sorted(ys)]||[*ys.values()]|>, 1))||
        y = <|torch.einsum("bc,nmc->bnm", x, self.w).flatten(1)||torch.cat([x @ w.T for w in self.w], 1)||torch.cat([F.linear(x, self.w[i]) for i in range(<|@n||len(self.w)||self.w.shape[0]|>)], -1)||(self.w @ x.t()).permute(2, 0, 1).reshape(len(x), -1)|>
        return x + self.out(y)||
        y = self.all(x).relu()
        parts = <|y.split(@m, dim=1)||y.chunk(@n, 1)||y.view(-1, @n, @m).unbind(1)||[y[:, i * @m : (i + 1) * @m] for i in range(@n)]||[y[:, a:b] for a, b in zip(range(0, y.shape[1], @m), range(@m, y.shape[1] + 1, @m))]|>
        return x + sum(out(part) for out, part in zip(self.out, parts))||
        y = self.all(x).view(x.shape[0], @n, <|@m||-1|>)
        return x + <|torch.einsum("bnm,nmc->bc", y, self.out)||torch.bmm(y.transpose(0, 1), self.out).sum(0)||(y.unsqueeze(-1) * self.out).sum((1, 2))||y.flatten(1) @ self.out.flatten(0, 1)|>|>
"""

PICKED = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        <how|self.register_buffer("order", torch.randperm(m))||self.register_buffer("order", torch.arange(m - 1, -1, -1))||self.scale = nn.Parameter(torch.ones(m))||self.k = 3||self.register_buffer("signs", torch.ones(m))|>

    def forward(self, x):
        h = self.f(x)
        <how|h = <|h[:, self.order]||h.index_select(1, self.order)||torch.gather(h, 1, self.order.expand(len(h), -1))|>||h = h[:, self.order].relu()||
        h = h.mul(self.scale) + self.scale.mean()||
        values, where = h.abs().topk(self.k, dim=1)
        h = h * torch.zeros_like(h).scatter(1, where, 1.0)||
        h = torch.where(h > 0, h, h * self.signs)<|.flip(1)|| |>|>
        return x + self.g(h)
"""

VECTORS = [
    Fragment("layers", LAYERS, {"m": (6, 8), "o": (6, 8, 10)}, out="o"),
    Fragment("factors", FACTORS, {"m": (3, 4), "n": (2, 3, 4)}),
    Fragment("codes", CODES, {"m": (4, 6), "k": (5, 7)}),
    Fragment("gaussian", GAUSS, {"m": (4, 6)}, exact=True),
    Fragment("kept values", WRITTEN, {"m": (4, 6)}),
    Fragment("heads", HEADS, {"m": (3, 4), "n": (2, 3)}, exact=True),
    Fragment("picked", PICKED, {"m": (6, 8)}),
]
