"""Pieces over (batch, channels, height, width)."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

CONV = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.a, self.b = nn.Conv2d(c, m, 3, padding=1), nn.Conv2d(m, c, 1)||
        self.net = nn.Sequential(nn.Conv2d(c, m, 3, 1, 1, bias=False), nn.BatchNorm2d(m), nn.ReLU(inplace=True), nn.Conv2d(m, c, 1))||
        self.a, self.n, self.b = nn.Conv2d(c, m, 3, padding="same"), <|nn.BatchNorm2d(m)||nn.GroupNorm(1, m)||nn.GroupNorm(2, m)||nn.InstanceNorm2d(m, affine=True)|>, nn.Conv2d(m, c, 3, padding=1)||
        self.w, self.v = nn.Parameter(torch.randn(m, c, 3, 3)), nn.Parameter(torch.randn(c, m, 1, 1))||
        self.a, self.b = nn.Conv2d(c, m, 3, padding=1), nn.Conv2d(m, c, 1)
        self.act = nn.<|PReLU(m)||PReLU()||Hardswish()|>||
        for i, (a, b) in enumerate([(c, m), (m, m), (m, c)]):
            self.add_module(f"conv{i}", nn.Conv2d(a, b, 3, padding=1))|>

    def forward(self, x):
        <how|return <|x + self.b($act(self.a(x)))||self.b(F.relu(self.a(x), inplace=True)) + x||self.b(self.a(x).relu_())|>||
        return <|self.net(x)||x + self.net(x)||self.net[3:](self.net[:3](x)) + x|>||
        h = $act(self.n(self.a(x)))
        return x + self.b(h)||
        h = F.conv2d(x, self.w, padding=1).relu()
        return x + F.conv2d(h, self.v)||
        return x + self.b(self.act(self.a(x)))||
        y = x
        for i in range(3):
            y = getattr(self, f"conv{i}")(y).relu()
        return x + y|>
"""

DEPTHWISE = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.up, self.dw, self.down = nn.Conv2d(c, m, 1), nn.Conv2d(m, m, 3, padding=1, groups=m), nn.Conv2d(m, c, 1)||
        self.up, self.dw, self.down = nn.Conv2d(c, m, 1), nn.Parameter(torch.randn(m, 1, 3, 3)), nn.Conv2d(m, c, 1)||
        self.up, self.dw, self.down = nn.Conv2d(c, m, 1), nn.Conv2d(m, 2 * m, 3, padding=1, groups=m), nn.Conv2d(2 * m, c, 1)|>
        <norm|self.norm = nn.BatchNorm2d(m)||self.norm = nn.Identity()|>

    def forward(self, x):
        h = self.norm(self.up(x))
        <how|h = self.dw(h)||h = F.conv2d(h, self.dw, padding=1, groups=<|@m||h.shape[1]||h.size(1)||self.dw.size(0)||self.up.out_channels|>)||h = self.dw(h)|>
        return x + self.down($act(h))
"""

GROUPED = """
class NAME(nn.Module):
    INIT(c, g, m)
        self.a = nn.Conv2d(c, g * m, 1)
        self.b = nn.Conv2d(g * m, g * m, 3, padding=1, groups=g)
        self.out = nn.Conv2d(g * m, c, 1)

    def forward(self, x):
        h = self.b(self.a(x).relu())
        <|b, c, height, width = h.shape
        h = h.view(b, @g, <|c // @g||-1||@m||$per(c, @g)|>, height, width).transpose(1, 2).<|reshape(b, c, height, width)||flatten(1, 2)||contiguous().view(b, -1, height, width)|>||
        h = rearrange(h, "b (g m) h w -> b (m g) h w", g=@g)||
        h = torch.stack(h.chunk(@g, dim=1), dim=2).flatten(1, 2)||
        h = torch.cat([h[:, i * @m : (i + 1) * @m] for i in reversed(range(@g))], 1)||
        h = h.unflatten(1, (@g, -1)).sum(1, keepdim=True).expand(-1, @g, -1, -1, -1).flatten(1, 2)||
        h = F.relu(h)|>
        return x + self.out(h)
"""

SQUEEZE = """
class NAME(nn.Module):
    INIT(c, r)
        <how|self.pool, self.f, self.g = nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, r, 1), nn.Conv2d(r, c, 1)||
        self.f, self.g = nn.Linear(c, r), nn.Linear(r, c)||
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, r), nn.ReLU(), nn.Linear(r, c), nn.Sigmoid())||
        self.mix = nn.Conv1d(1, 1, 3, padding=1)|>

    def forward(self, x):
        <how|s = torch.sigmoid(self.g(F.relu(self.f(self.pool(x)))))
        return x * s||
        s = <|x.mean((2, 3))||F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)||x.mean(dim=[-2, -1])||x.flatten(2).mean(-1)||x.amax((2, 3))|>
        s = self.g(self.f(s).relu()).sigmoid()
        return <|x * s[:, :, None, None]||x * s.view(*s.shape, 1, 1)||x * s.view(x.size(0), x.size(1), 1, 1)||torch.einsum("bchw,bc->bchw", x, s)||x * rearrange(s, "b c -> b c 1 1")|>||
        return x * <|self.net(x)[..., None, None]||self.net(x).unsqueeze(-1).unsqueeze(-1)||self.net(x).view(x.shape[0], -1, 1, 1).expand_as(x)|>||
        s = self.mix(x.mean((2, 3))[:, None])[:, 0]
        return x * s.sigmoid()[..., None, None]|>
"""

SPLIT = """
class NAME(nn.Module):
    INIT(c, m)
        self.a = nn.Conv2d(c, 2 * m, 1)
        self.b = nn.Conv2d(m, m, 3, padding=1)
        self.out = nn.Conv2d(<n|2||3|> * m, c, 1)

    def forward(self, x):
        y = self.a(x)
        <|p, q = y.chunk(2, 1)||p, q = y[:, : @m], y[:, @m :]||p, q = y.split((@m, @m), 1)||p, q = y.split(self.b.in_channels, dim=1)||
        n = $half(y.shape[1])
        p, q = y[:, :n], y[:, n:]||p, q = torch.tensor_split(y, 2, dim=1)||p, q = y.unflatten(1, (2, -1)).unbind(1)||
        p, q = rearrange(y, "b (n c) h w -> n b c h w", n=2)|>
        parts = [p, q]
        <n|parts = [p, self.b(q).relu()]||parts.append(self.b(parts[-1]).relu())|>
        return x + self.out(torch.cat(parts, <|1||dim=1|>))
"""

DENSE = """
class NAME(nn.Module):
    INIT(c, g, n)
        self.layers = nn.ModuleList([nn.Conv2d(c + i * g, g, 3, padding=1) for i in range(n)])
        self.out = nn.Conv2d(c + n * g, c, 1)

    def forward(self, x):
        <|features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)).relu())
        return self.out(torch.cat(features, dim=1))||
        for layer in self.layers:
            x = torch.cat((x, layer(x).tanh()), 1)
        return self.out(x)||
        y = x
        for layer in self.layers:
            new = layer(y).relu()
            y = torch.cat([new, y[:, : <|y.shape[1]||layer.in_channels|>]], 1)
            y = torch.cat([y[:, new.shape[1] :], y[:, : new.shape[1]]], 1)
        return self.out(y)|>
"""

PIXELS = """
class NAME(nn.Module):
    INIT(c, heads, d)
        self.norm = nn.GroupNorm(1, c)
        self.qkv, self.proj = nn.Conv2d(c, 3 * heads * d, 1), nn.Conv2d(heads * d, c, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        <|q, k, v = self.qkv(self.norm(x)).view(b, 3, @heads, <|@d||-1|>, h * w).unbind(1)||
        q, k, v = (z.reshape(b, @heads, @d, -1) for z in self.qkv(x).chunk(3, dim=1))||
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (n e d) h w -> n b e d (h w)", n=3, e=@heads)||
        q, k, v = self.qkv(x).flatten(2).split(@heads * @d, 1)
        q, k, v = (z.view(b, @heads, -1, h * w) for z in (q, k, v))|>
        <|scores = torch.einsum("bedi,bedj->beij", q, k) * @d ** -0.5
        y = torch.einsum("beij,bedj->bedi", scores.softmax(-1), v)||
        y = v @ (q.mT @ k / math.sqrt(q.shape[2])).softmax(-1).mT||
        y = F.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT|>
        y = y.reshape(b, <|-1||@heads * @d||self.proj.in_channels|>, h, w)
        return x + self.proj(y)
"""

RESIZE = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.down, self.up = nn.Conv2d(c, m, 2, 2), nn.ConvTranspose2d(m, c, 2, 2)||self.down, self.up = nn.Conv2d(c, m, 3, padding=1), nn.Conv2d(m + c, c, 1)||
        self.down, self.up = nn.Conv2d(4 * c, m, 1), nn.Conv2d(m, 4 * c, 1)||self.down, self.up = nn.Conv2d(c, 4 * m, 3, 2, 1), nn.Conv2d(m, c, 1)||
        self.down, self.up = nn.Conv2d(c, m, 1), nn.ConvTranspose2d(m, m, 2, 2, groups=m)
        self.out = nn.Conv2d(m, c, 1)|>

    def forward(self, x):
        <how|return x + self.up(self.down(x).relu())||
        y = self.down(F.<|avg_pool2d||max_pool2d|>(x, 2)).relu()
        y = F.interpolate(y, <|scale_factor=2||size=x.shape[-2:]||size=x.shape[2:], mode="bilinear", align_corners=False|>)
        return self.up(torch.cat([y, x], 1))||
        y = <|F.pixel_unshuffle(x, 2)||rearrange(x, "b c (h i) (w j) -> b (c i j) h w", i=2, j=2)||
        torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)||F.unfold(x, 2, stride=2).view(x.size(0), -1, x.size(2) // 2, x.size(3) // 2)|>
        y = self.up(self.down(y).relu())
        return F.pixel_shuffle(y, 2)||
        return x + self.up(F.pixel_shuffle(self.down(x), 2))||
        y = F.max_pool2d(self.down(x), 2)
        return self.out(self.up(y)) + x|>
"""

LAST = """
class NAME(nn.Module):
    INIT(c, m)
        self.dw, self.norm = nn.Conv2d(c, c, 3, padding=1, groups=c), nn.LayerNorm(c)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.gamma = nn.Parameter(0.1 * torch.ones(c))

    def forward(self, x):
        y = self.dw(x).permute(0, 2, 3, 1)
        y = self.g($act(self.f(self.norm(y))))
        y = <|(self.gamma * y).permute(0, 3, 1, 2)||rearrange(y * self.gamma, "b h w c -> b c h w")||y.movedim(-1, 1) * self.gamma.view(1, -1, 1, 1)||y.permute(0, 3, 1, 2) * self.gamma[:, None, None]|>
        return x + y
"""

SPATIAL = """
class NAME(nn.Module):
    INIT(c, m)
        self.conv, self.mix = nn.Conv2d(2, 1, 3, padding=1), nn.Conv2d(c, m, 1)
        self.out = nn.Conv2d(m, c, 1)

    def forward(self, x):
        s = torch.cat([x.mean(1, keepdim=True), <|x.amax(1, keepdim=True)||x.max(dim=1, keepdim=True)[0]||x.max(1).values[:, None]|>], 1)
        y = x * self.conv(s).sigmoid()
        return x + self.out(self.mix(y).<|relu()||tanh()|>)
"""

WINDOWS = """
class NAME(nn.Module):
    INIT(c, heads, m)
        self.qkv, self.proj = nn.Linear(c, 3 * heads * m), nn.Linear(heads * m, c)
        self.side = 3

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.side
        <|y = x.view(b, c, h // n, n, w // n, n).permute(0, 2, 4, 3, 5, 1).reshape(-1, n * n, <|c||@c||x.shape[1]|>)||
        y = rearrange(x, "b c (i n) (j o) -> (b i j) (n o) c", n=n, o=n)|>
        q, k, v = self.qkv(y).reshape(y.shape[0], n * n, 3, @heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        y = self.proj(y)
        <|y = y.view(b, h // n, w // n, n, n, <|-1||c||@c|>).permute(0, 5, 1, 3, 2, 4).reshape(b, <|-1||c||@c||y.shape[-1]|>, h, w)||
        y = rearrange(y, "(b i j) (n o) c -> b c (i n) (j o)", b=b, i=h // n, n=n)|>
        return x + y
"""

M = {"m": (4, 6, 8)}
IMAGES = [
    Fragment("convolutions", CONV, M),
    Fragment("depthwise convolution", DEPTHWISE, M),
    Fragment("grouped convolution", GROUPED, {"g": (2, 3), "m": (2, 4)}, exact=True),
    Fragment("squeeze", SQUEEZE, {"r": (2, 4)}),
    Fragment("split channels", SPLIT, M, exact=True),
    Fragment("dense block", DENSE, {"g": (2, 3, 4), "n": (2, 3)}, exact=True),
    Fragment("attention over pixels", PIXELS, {"heads": (2, 3), "d": (2, 4)}),
    Fragment("up and down", RESIZE, M, exact=True),
    Fragment("channels last", LAST, M),
    Fragment("attention by channels", SPATIAL, M),
    Fragment("windows", WINDOWS, {"heads": (2, 3), "m": (2, 4)}),
]
