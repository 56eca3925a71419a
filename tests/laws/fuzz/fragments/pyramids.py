"""More pieces over images: several resolutions, dynamic weights, moments."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

UNET = """
class NAME(nn.Module):
    INIT(c, m, n)
        self.down = nn.ModuleList([nn.Conv2d(c, m, 3, padding=1), nn.Conv2d(m, n, 3, padding=1)])
        <how|self.up = nn.ModuleList([nn.Conv2d(n + m, m, 1), nn.Conv2d(m + c, c, 1)])||self.up = nn.ModuleList([nn.Conv2d(n, m, 1), nn.Conv2d(m, c, 1)])|>

    def forward(self, x):
        skips, y = [], x
        for layer in self.down:
            skips.append(y)
            y = <|F.avg_pool2d(layer(y).relu(), 2, ceil_mode=True)||F.max_pool2d(layer(y), kernel_size=2, ceil_mode=True)||layer(y).relu()[..., ::2, ::2]|>
        for <|layer in self.up:
            skip = skips.pop()||layer, skip in zip(self.up, reversed(skips)):||layer, skip in zip(self.up, skips[::-1]):|>
            y = F.interpolate(y, size=<|skip.shape[2:]||skip.shape[-2:]||tuple(skip.shape[-2:])|>)
            y = <how|layer(torch.cat([y, skip], 1))||layer(y)|>
        return y
"""

FPN = """
class NAME(nn.Module):
    INIT(c, m, n)
        self.stages = nn.ModuleList([nn.Conv2d(c, m, 3, padding=1), nn.Conv2d(m, m, 3, padding=1)])
        self.lateral = nn.ModuleList([nn.Conv2d(k, n, 1) for k in (c, m, m)])
        self.out = nn.Conv2d(n, c, 1)

    def forward(self, x):
        maps = <|[x]
        for stage in self.stages:
            maps.append(stage(maps[-1]).relu())||(x, self.stages[0](x).relu())
        maps = (*maps, self.stages[1](maps[1]).tanh())|>
        maps = [f(one) for f, one in zip(self.lateral, maps)]
        y = maps[-1]
        for i in <|range(len(maps) - 2, -1, -1)||reversed(range(len(maps) - 1))|>:
            y = y + maps[i]
        return x + self.out(y<| / len(maps)|| |>)
"""

DYNAMIC = """
class NAME(nn.Module):
    INIT(c, m)
        self.a, self.b = nn.Conv2d(c, m, 1), nn.Conv2d(m, c, 1)
        <how|self.make = nn.Linear(m, m * 9)||self.make = nn.Linear(m, m)||self.make = nn.Linear(m, 2)
        self.bank = nn.Parameter(torch.randn(2, m, m, 1, 1))|>

    def forward(self, x):
        h = self.a(x).relu()
        b, m, height, width = h.shape
        s = h.mean((2, 3))
        <how|w = self.make(s).view(b * m, 1, 3, 3)
        h = F.conv2d(h.reshape(1, b * m, height, width), w, padding=1, groups=b * m).view(b, m, height, width)||
        h = h * self.make(s).view(b, <|m||-1|>, 1, 1).sigmoid()||
        share = self.make(s).softmax(-1)
        w = torch.einsum("bn,noihw->boihw", share, self.bank)
        h = F.conv2d(h.reshape(1, -1, height, width), w.flatten(0, 1), groups=b).view(b, -1, height, width)|>
        return x + self.b(h)
"""

MOMENTS = """
class NAME(nn.Module):
    INIT(c, m)
        self.a, self.b = nn.Conv2d(c, m, 1), nn.Conv2d(m, c, 1)
        <how|self.w, self.v = nn.Parameter(torch.ones(1, m, 1, 1)), nn.Parameter(torch.zeros(1, m, 1, 1))||self.w = nn.Parameter(torch.ones(m))||self.beta = nn.Parameter(torch.ones(m, 1, 1))|>

    def forward(self, x):
        h = self.a(x)
        <how|g = h.norm(p=2, dim=(2, 3), keepdim=True)
        h = h + self.w * h * g / (g.mean(dim=1, keepdim=True) + 1e-6) + self.v||
        <|mean, std = h.mean((2, 3), keepdim=True), h.std((2, 3), keepdim=True)||std, mean = torch.std_mean(h, (2, 3), keepdim=True)|>
        h = (h - mean) / (std + 1e-3) * self.w<|[:, None, None]||.view(1, -1, 1, 1)||.view(1, h.shape[1], 1, 1)||.reshape(1, @m, 1, 1)|>||
        flat = h.flatten(2)
        gram = flat @ flat.transpose(1, 2) / <|flat.shape[-1]||(h.size(1) * flat.size(-1))|>
        h = (gram.softmax(-1) @ flat).view_as(h) * self.beta + h|>
        return x + self.b(h)
"""

SHIFTED = """
class NAME(nn.Module):
    INIT(c, m)
        self.a, self.b = nn.Conv2d(c, 2 * m, 1), nn.Conv2d(2 * m, c, 1)

    def forward(self, x):
        h = self.a(x)
        <|p, q = h.chunk(2, 1)
        h = torch.cat([p.roll(1, 2), q.roll(-1, 3)], 1)||h = torch.cat([h[:, : @m].roll(1, -1), h[:, @m :]], dim=1)||
        h[:, : @m] = h[:, : @m].roll(1, dims=2)||
        out = torch.zeros_like(h)
        out[:, : @m, :, 1:] = h[:, : @m, :, :-1]
        out[:, @m :, 1:] = h[:, @m :, :-1]
        h = out||h = F.pad(h, (1, 1, 1, 1), mode=<|"constant"||"reflect"||"circular"|>)[..., 2:, :-2]|>
        return x + self.b(h.tanh())
"""

SEQUENTIAL = """
def block_NAME(a, b, k=1, act=True):
    layers = [nn.Conv2d(a, b, k, padding=k // 2, bias=False), nn.BatchNorm2d(b)]
    if act:
        layers.append(nn.<|ReLU(inplace=True)||SiLU()||ReLU6()||LeakyReLU(0.1)|>)
    return nn.Sequential(*layers)

class NAME(nn.Module):
    expansion = 2

    INIT(c, m)
        self.body = nn.Sequential(
            block_NAME(c, m), block_NAME(m, m, 3), block_NAME(m, m * self.expansion), nn.Conv2d(m * self.expansion, c, 1))
        <how|self.short = nn.Identity()||self.short = block_NAME(c, c, act=False)||self.short = None|>
        self.pool = <|nn.MaxPool2d(3, 1, 1)||nn.AvgPool2d(3, 1, 1)||nn.Dropout2d(0.1)||nn.Upsample(scale_factor=1)||nn.LocalResponseNorm(2)||nn.ZeroPad2d(0)|>

    def forward(self, x):
        <how|y = self.body(x) + self.short(x)||y = self.short(x) + self.body(x)||y = self.body(x)
        if self.short is not None:
            y = y + self.short(x)|>
        return self.pool(y)
"""

PYRAMIDS = [
    Fragment("u-net", UNET, {"m": (4, 6), "n": (3, 5)}),
    Fragment("pyramid", FPN, {"m": (4, 6), "n": (3, 5)}),
    Fragment("dynamic convolution", DYNAMIC, {"m": (4, 6)}),
    Fragment("moments", MOMENTS, {"m": (4, 6)}),
    Fragment("shifts", SHIFTED, {"m": (3, 4)}),
    Fragment("blocks of layers", SEQUENTIAL, {"m": (4, 6)}),
]
