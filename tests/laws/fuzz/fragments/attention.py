"""Attention over (batch, positions, features)."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

HEADS = {"heads": (2, 3, 4), "d": (2, 3, 4)}

FUSED = """
class NAME(nn.Module):
    INIT(c, heads, d)
        self.qkv = nn.Linear(c, <|3 * heads * d||heads * d * 3||3 * (heads * d)|><|, bias=False || |>)
        self.proj = nn.Linear(heads * d, c)
        <scale| || ||self.scale = d ** -0.5|| || |>

    def forward(self, x, mask=None):
        $bt(x)
        $check(x)
        <|q, k, v = self.qkv(x).<|view||reshape|>(b, t, 3, @heads, <|@d||-1|>).permute(2, 0, 3, 1, 4)<|.unbind(0)|| |>||
        qkv = self.qkv(x).reshape(b, -1, 3, @heads, @d).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]||
        q, k, v = map(lambda z: z.view(b, t, @heads, <|@d||-1|>).transpose(1, 2), self.qkv(x).chunk(3, dim=-1))||
        q, k, v = (z.reshape(b, t, @heads, -1).transpose(1, 2) for z in self.qkv(x).split(@heads * @d, dim=-1))||
        q, k, v = [z.unflatten(-1, (@heads, <|@d||-1|>)).transpose(1, 2) for z in self.qkv(x).split([@heads * @d] * 3, -1)]||
        q, k, v = self.qkv(x).unflatten(-1, (3, @heads, @d)).transpose(1, 3).unbind(2)||
        q, k, v = rearrange(self.qkv(x), "b t (n h d) -> n b h t d", n=3, h=@heads)||
        q, k, v = rearrange(self.qkv(x), "b t (n h d) -> n b h t d", n=3, <|d=@d||h=@heads, d=@d|>)||
        q, k, v = map(lambda z: rearrange(z, "b t (h d) -> b h t d", h=@heads), self.qkv(x).chunk(3, -1))||
        y, inner = self.qkv(x), <|@heads * @d||self.proj.in_features||self.qkv.out_features // 3|>
        q, k, v = y[..., :inner], y[..., inner : 2 * inner], y[..., <|2 * inner :||-inner:|>]
        q, k, v = (z.view(b, t, @heads, @d).transpose(1, 2) for z in (q, k, v))||
        q, k, v = self.qkv(x).view(b, t, @heads, 3 * @d).transpose(1, 2).chunk(3, -1)||
        q, k, v = self.qkv(x).view(b, t, @heads, -1).transpose(1, 2).split(@d, dim=-1)||
        q, k, v = self.qkv(x).view(b, t, @heads, @d, 3).transpose(1, 2).unbind(-1)||
        q, k, v = torch.tensor_split(self.qkv(x), 3, dim=-1)
        q, k, v = (z.reshape(b, t, @heads, @d).permute(0, 2, 1, 3) for z in (q, k, v))||
        shape = (b, t, 3, @heads, <|self.qkv.weight.shape[0] // (3 * @heads)||@d|>)
        q, k, v = self.qkv(x).view(*shape).permute(2, 0, 3, 1, 4)||
        y = self.qkv(x)
        parts = []
        for i in range(3):
            part = y.narrow(-1, i * @heads * @d, @heads * @d)
            parts.append(part.view(b, t, @heads, @d).transpose(1, 2))
        q, k, v = parts||
        wq, wk, wv = <|self.qkv.weight.chunk(3)||self.qkv.weight.split(@heads * @d)||self.qkv.weight.view(3, -1, $last(x)).unbind(0)|>
        q, k, v = (F.linear(x, w).view(b, t, @heads, @d).transpose(1, 2) for w in (wq, wk, wv))||
        w = self.qkv.weight.view(3, @heads, @d, -1)
        q, k, v = torch.einsum("btc,nhdc->nbhtd", x, w)|>
        $attend(q, k, v)
        $merge()
        return <|x + self.proj(y)||self.proj(y)||x.add(self.proj(y))|>
"""

APART = """
<split| ||
def split_NAME(z, heads):
    b, t, c = z.shape
    return z.view(b, t, heads, $per(c, heads)).transpose(1, 2)||
def split_NAME(z, heads, width=-1):
    return z.reshape(*z.shape[:-1], heads, width).permute(0, 2, 1, 3)|| || || || || |>

class NAME(nn.Module):
    INIT(c, heads, d)
        <hold|self.q, self.k, self.v = nn.Linear(c, heads * d), nn.Linear(c, heads * d), nn.Linear(c, heads * d)||
        self.q, self.k, self.v = (nn.Linear(c, heads * d, bias=False) for _ in range(3))||
        for name in "qkv":
            setattr(self, name, nn.Linear(c, heads * d))||
        self.make = nn.ModuleDict({name: nn.Linear(c, heads * d) for name in ("q", "k", "v")})||
        self.make = nn.ModuleList([nn.Linear(c, heads * d) for _ in range(3)])|>
        self.proj = nn.Linear(heads * d, c)
        <scale| || ||self.scale = d ** -0.5|| || |>
        <split| || || ||self.split = Rearrange("b t (h d) -> b h t d", h=heads)|| || || ||self.cut = lambda z: z.unflatten(-1, (heads, d)).transpose(1, 2)|>

    <split| || || || ||
    def divide(self, z):
        return z.view(z.size(0), -1, @heads, @d).transpose(1, 2)||
    def divide(self, z):
        shape = z.size()[:-1] + (@heads, @d)
        return z.view(shape).permute(0, 2, 1, 3)|| || |>

    def forward(self, x, mask=None):
        $bt(x)
        $check(x)
        <hold|<|q, k, v = self.q(x), self.k(x), self.v(x)||
        w = torch.cat([self.q.weight, self.k.weight, self.v.weight])
        q, k, v = F.linear(x, w, torch.cat([self.q.bias, self.k.bias, self.v.bias])).<|chunk(3, -1)||split(@heads * @d, -1)|>|>||
        q, k, v = [getattr(self, name)(x) for name in "qkv"]||
        q, k, v = (m(x) for m in (self.q, self.k, self.v))||
        q, k, v = (self.make[name](x) for name in ("q", "k", "v"))||
        q, k, v = [make(x) for make in self.make]|>
        <split|q, k, v = (z.view(b, t, @heads, <|@d||-1||$last(z) // @heads|>).transpose(1, 2) for z in (q, k, v))||
        q, k, v = split_NAME(q, @heads), split_NAME(k, @heads), split_NAME(v, @heads)||
        q, k, v = [split_NAME(z, @heads<|, @d|| |>) for z in (q, k, v)]||
        q, k, v = map(self.split, (q, k, v))||
        q, k, v = self.divide(q), self.divide(k), self.divide(v)||
        q, k, v = map(self.divide, (q, k, v))||
        def heads(z):
            return z.view(b, t, @heads, <|$last(z) // @heads||@d||-1|>).transpose(1, 2)
        q, k, v = heads(q), heads(k), heads(v)||
        q, k, v = self.cut(q), self.cut(k), self.cut(v)|>
        $attend(q, k, v)
        $merge()
        return <|x + self.proj(y)||self.proj(y)|>
"""

GROUPED = """
<how|def repeat_NAME(z, n):
    b, h, t, d = z.shape
    if n == 1:
        return z
    return z[:, :, None].expand(b, h, n, t, d).reshape(b, h * n, t, d)|| || || || || |>

class NAME(nn.Module):
    INIT(c, heads, groups, d)
        self.q = nn.Linear(c, heads * d, bias=False)
        <fused|self.k, self.v = nn.Linear(c, groups * d, bias=False), nn.Linear(c, groups * d)||
        self.kv = nn.Linear(c, 2 * groups * d)|>
        self.proj = nn.Linear(heads * d, c)
        <how|self.repeats = heads // groups||self.repeats = heads // groups|| || || || |>
        <scale| || ||self.scale = d ** -0.5|| || |>

    def forward(self, x, mask=None):
        $bt(x)
        q = self.q(x).view(b, t, @heads, @d).transpose(1, 2)
        <fused|k = self.k(x).view(b, t, @groups, @d).transpose(1, 2)
        v = self.v(x).view(b, t, @groups, <|@d||-1|>).transpose(1, 2)||
        k, v = <|self.kv(x).view(b, t, 2, @groups, @d).permute(2, 0, 3, 1, 4)||
        (z.view(b, t, @groups, -1).transpose(1, 2) for z in self.kv(x).chunk(2, dim=-1))|>|>
        <how|k, v = repeat_NAME(k, self.repeats), repeat_NAME(v, self.repeats)||
        k = k.repeat_interleave(self.repeats, dim=1)
        v = v.repeat_interleave(self.repeats, 1)||
        k, v = (z.repeat_interleave($per(@heads, @groups), dim=1) for z in (k, v))||
        k, v = (torch.repeat_interleave(z, q.size(1) // z.size(1), dim=1) for z in (k, v))||
        q = q.view(b, @groups, -1, t, @d)
        k, v = (z.unsqueeze(2).expand_as(q) for z in (k, v))
        q, k, v = (z.flatten(1, 2) for z in (q, k, v))||
        k = k.unsqueeze(2).repeat(1, 1, @heads // @groups, 1, 1).flatten(1, 2)
        v = v[:, :, None].expand(-1, -1, @heads // @groups, -1, -1).reshape(b, @heads, t, @d)|>
        $attend(q, k, v)
        $merge()
        return x + self.proj(y)
"""

ROTARY = """
<cache| || || || ||@lru_cache(maxsize=<|None||8|>)
def table_NAME(t, d):
    freq = 1.0 / 100 ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.arange(t, dtype=torch.float64)[:, None] * torch.cat([freq, freq])
    return angle.cos(), angle.sin()||TABLES_NAME = {}|| |>

def rotate_NAME(z):
    <|a, b = z.chunk(2, dim=-1)||half = $half($last(z))
    a, b = z[..., :half], z[..., half:]||a, b = z[..., : z.shape[-1] // 2], z[..., z.shape[-1] // 2 :]|>
    return torch.cat(<|(-b, a)||[-b, a]|>, dim=-1)

class NAME(nn.Module):
    INIT(c, heads, d)
        self.qkv, self.proj = nn.Linear(c, 3 * heads * d), nn.Linear(heads * d, c)
        <cache|self.register_buffer("freq", 1.0 / 100 ** (torch.arange(0, d, 2) / d))||
        freq = 1.0 / 100 ** (torch.arange(0, d, 2).double() / d)
        angle = torch.outer(torch.arange(32).double(), freq)
        self.register_buffer("cos", torch.cat([angle, angle], -1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat([angle, angle], -1).sin(), persistent=False)||
        self.freq = 1.0 / 100 ** (torch.arange(0, d, 2) / d)
        self.seen, self.table = 0, None||
        self.tables = {}|| || || |>
        <scale| || ||self.scale = d ** -0.5|| || |>

    def rotary(self, t, x):
        <cache|angle = torch.einsum("i,j->ij", torch.arange(t).type_as(self.freq), self.freq)
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos(), angle.sin()||
        return self.cos[:t], self.sin[:t]||
        if self.table is None or t > self.seen:
            angle = torch.outer(torch.arange(t).to(self.freq), self.freq)
            self.seen, self.table = t, torch.cat([angle, angle], -1)
        table = self.table[:t]
        return table.cos(), table.sin()||
        if t not in self.tables:
            freq = 1.0 / 100 ** (torch.arange(0, @d, 2, dtype=x.dtype) / @d)
            angle = torch.arange(t, dtype=x.dtype)[:, None] * torch.cat([freq, freq])[None]
            self.tables[t] = (angle.cos(), angle.sin())
        return self.tables[t]||
        return table_NAME(t, @d)||
        if (t, @d) not in TABLES_NAME:
            freq = 1.0 / 100 ** (torch.arange(0, @d, 2, dtype=x.dtype) / @d)
            TABLES_NAME[t, @d] = torch.arange(t, dtype=x.dtype)[:, None] * torch.cat([freq, freq])
        table = TABLES_NAME[t, @d]
        return table.cos(), table.sin()||
        angle = torch.outer(torch.arange(t, dtype=x.dtype), 0.1 ** torch.arange(@d // 2, dtype=x.dtype))
        return torch.polar(torch.ones_like(angle), angle), None|>

    def forward(self, x, mask=None):
        $bt(x)
        q, k, v = self.qkv(x).view(b, t, 3, @heads, @d).permute(2, 0, 3, 1, 4)
        cos, sin = self.rotary(t, x)
        if sin is None:
            q, k = (torch.view_as_real(torch.view_as_complex(z.reshape(*z.shape[:-1], -1, 2)) * cos).flatten(-2) for z in (q, k))
        else:
            q, k = (z * cos + rotate_NAME(z) * sin for z in (q, k))
        $attend(q, k, v)
        $merge()
        return x + self.proj(y)
"""

BIASED = """
class NAME(nn.Module):
    INIT(c, heads, d)
        self.qkv, self.proj = nn.Linear(c, 3 * heads * d), nn.Linear(heads * d, c)
        <bias|self.table = nn.Parameter(torch.randn(63, heads))||self.table = nn.Embedding(63, heads)||
        self.table = nn.Parameter(torch.randn(heads, 32, 32))||self.slopes = nn.Parameter(torch.rand(heads))||
        self.register_buffer("slopes", torch.rand(heads, 1, 1))||self.bias = nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, heads))|>

    def forward(self, x, mask=None):
        $bt(x)
        q, k, v = self.qkv(x).view(b, t, 3, @heads, @d).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (<|@d||q.shape[-1]|> ** -0.5)
        at = torch.arange(t, device=x.device)
        where = at[:, None] - at[None]
        <bias|scores = scores + self.table[where + 31].permute(2, 0, 1)||
        scores = scores + self.table(where + 31).permute(2, 0, 1)<|.unsqueeze(0)|| |>||
        scores = scores + self.table[:, :t, :t]||
        scores = scores - self.slopes.view(<|-1||@heads|>, 1, 1) * where.abs()||
        scores = scores - self.slopes * where.abs()||
        scores = scores + rearrange(self.bias(where.to(x.dtype)[..., None]), "i j h -> h i j")|>
        y = scores.softmax(-1) @ v
        $merge()
        return self.proj(y) + x
"""

LATENT = """
class NAME(nn.Module):
    INIT(c, heads, d, n)
        self.latent = nn.Parameter(torch.randn(<|n, c||1, n, c|>))
        self.q, self.kv, self.proj = nn.Linear(c, heads * d), nn.Linear(c, 2 * heads * d), nn.Linear(heads * d, c)
        <scale| || ||self.scale = d ** -0.5|| || |>

    def forward(self, x, mask=None):
        b = x.shape[0]
        z = self.latent.expand(b, -1, -1)
        q = self.q(z).view(b, <|z.shape[1]||-1||@n|>, @heads, @d).transpose(1, 2)
        k, v = self.kv(x).view(b, -1, 2, @heads, @d).permute(2, 0, 3, 1, 4)
        y = ((q @ k.mT) <|* @d ** -0.5||/ math.sqrt(@d)|>).softmax(-1) @ v
        y = y.transpose(1, 2).flatten(2)
        return x + <|(self.proj(y) + z).mean(1, keepdim=True)||self.proj(y).sum(1)[:, None]||self.proj(y).amax(1, keepdim=True)|>
"""

LINEAR = """
class NAME(nn.Module):
    INIT(c, heads, d)
        self.q, self.k, self.v = (nn.Linear(c, heads * d) for _ in range(3))
        self.proj = nn.Linear(heads * d, c)

    def forward(self, x, mask=None):
        q, k, v = (<|rearrange(m(x), "b t (h d) -> b h t d", h=@heads)||m(x).unflatten(-1, (@heads, -1)).transpose(1, 2)|> for m in (self.q, self.k, self.v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        memory = torch.einsum("bhtd,bhte->bhde", k, v)
        norm = torch.einsum("bhtd,bhd->bht", q, k.sum(2))
        y = torch.einsum("bhtd,bhde->bhte", q, memory) / (norm[..., None] + 1e-6)
        return x + self.proj(<|y.transpose(1, 2).flatten(2)||rearrange(y, "b h t d -> b t (h d)")|>)
"""

FUNCTION = """
class NAME(nn.Module):
    INIT(c, heads)
        self.<|in_proj_weight||w|> = nn.Parameter(torch.randn(3 * c, c))
        self.b = nn.Parameter(torch.zeros(3 * c))
        self.out = nn.Linear(c, c)

    def forward(self, x, mask=None):
        w = getattr(self, "in_proj_weight", None)
        w = self.w if w is None else w
        y = x.transpose(0, 1)
        y = F.multi_head_attention_forward(
            y, y, y, <|@c||x.shape[-1]||self.out.in_features|>, @heads, w, self.b, None, None, False, 0.0,
            self.out.weight, self.out.bias, training=self.training, need_weights=False)[0]
        return x + y.transpose(0, 1)
"""

LAYER = """
class NAME(nn.Module):
    INIT(c, heads)
        <kind|self.attn = nn.MultiheadAttention(c, heads, batch_first=True)||self.attn = nn.MultiheadAttention(c, heads)||
        self.layer = nn.TransformerEncoderLayer(c, heads, 2 * c, 0.0, batch_first=True, norm_first=True)|>
        self.norm = nn.LayerNorm(c)

    def forward(self, x, mask=None):
        y = self.norm(x)
        <kind|return x + self.attn(y, y, y, <|need_weights=False||key_padding_mask=None if mask is None else ~mask.bool()|>)[0]||
        y = y.transpose(0, 1)
        return x + self.attn(y, y, y)[0].transpose(0, 1)||
        return self.layer(y)|>
"""

ATTENTION = [
    Fragment("fused attention", FUSED, HEADS),
    Fragment("attention of three layers", APART, HEADS),
    Fragment("grouped attention", GROUPED, {**HEADS, "groups": (1, 2)}, "heads % groups == 0"),
    Fragment("rotary attention", ROTARY, {"heads": (2, 3), "d": (2, 4)}),
    Fragment("attention with a bias", BIASED, HEADS),
    Fragment("latent attention", LATENT, {**HEADS, "n": (3, 4)}),
    Fragment("linear attention", LINEAR, HEADS),
    Fragment("attention as a function", FUNCTION, {"heads": (2,)}, "c % heads == 0"),
    Fragment("torch's attention", LAYER, {"heads": (2,)}, "c % heads == 0"),
]
