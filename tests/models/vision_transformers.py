"""Vision transformers, with attention written in the three usual ways."""

import torch
from einops import rearrange, repeat
from einops.layers.torch import Rearrange
from torch import einsum, nn

from .case import case, normal


class Attention(nn.Module):
    """As in timm: one fused projection, cut by a reshape to five dimensions."""

    def __init__(self, dim, num_heads=8, qkv_bias=True):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.attn_drop = nn.Dropout(0.0)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q @ k.transpose(-2, -1)) * self.scale
        attn = self.attn_drop(attn.softmax(dim=-1))
        x = (attn @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class Mlp(nn.Module):
    def __init__(self, in_features, hidden_features):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class ViT(nn.Module):
    def __init__(self, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=4, mlp_ratio=2.5, num_classes=10):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2 + 1, embed_dim))
        self.blocks = nn.Sequential(*[Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, x):
        B = x.shape[0]
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(B, -1, -1), x), dim=1)
        x = x + self.pos_embed
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0])


class SelfAttention(nn.Module):
    """Three projections and literal arithmetic; nothing about the heads is kept but their number."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.H = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        B, T, C = x.size()
        H = self.H
        q = self.q(x).view(B, T, H, -1).transpose(1, 2)
        k = self.k(x).view(B, T, H, -1).transpose(1, 2)
        v = self.v(x).view(B, T, H, -1).transpose(1, 2)
        att = torch.matmul(q, k.transpose(2, 3)) / (C // H) ** 0.5
        y = torch.matmul(torch.softmax(att, dim=-1), v)
        y = y.transpose(1, 2).contiguous().view(B, T, H * (C // H))
        return self.out(y)


class SeparateViT(nn.Module):
    def __init__(self, dim=48, depth=2, num_heads=4, hidden=40, num_classes=7):
        super().__init__()
        self.unfold = nn.Unfold(kernel_size=(6, 5), stride=(6, 5))
        self.embed = nn.Linear(3 * 6 * 5, dim)
        self.pos = nn.Parameter(torch.randn(20, dim) * 0.02)
        self.layers = nn.ModuleList()
        for _ in range(depth):
            mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
            self.layers.append(nn.ModuleList([nn.LayerNorm(dim), SelfAttention(dim, num_heads), mlp]))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x):
        x = self.embed(self.unfold(x).permute(0, 2, 1)) + self.pos
        for norm, attention, mlp in self.layers:
            x = x + attention(norm(x))
            x = x + mlp(x)
        return self.head(x.mean(dim=1))


class EinopsAttention(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        inner_dim = dim_head * heads
        self.heads = heads
        self.scale = dim_head**-0.5
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, inner_dim * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner_dim, dim), nn.Dropout(0.0))

    def forward(self, x):
        x = self.norm(x)
        qkv = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = map(lambda t: rearrange(t, "b n (h d) -> b h n d", h=self.heads), qkv)
        dots = einsum("b h i d, b h j d -> b h i j", q, k) * self.scale
        out = einsum("b h i j, b h j d -> b h i d", dots.softmax(dim=-1), v)
        out = rearrange(out, "b h n d -> b n (h d)")
        return self.to_out(out)


class EinopsViT(nn.Module):
    def __init__(self, dim=40, depth=2, heads=3, dim_head=10, mlp_dim=56, num_classes=7):
        super().__init__()
        self.to_patch_embedding = nn.Sequential(
            Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=8, p2=4),
            nn.LayerNorm(3 * 8 * 4),
            nn.Linear(3 * 8 * 4, dim),
            nn.LayerNorm(dim),
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, 19, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.layers = nn.ModuleList([])
        for _ in range(depth):
            feed_forward = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))
            self.layers.append(nn.ModuleList([EinopsAttention(dim, heads, dim_head), feed_forward]))
        self.mlp_head = nn.Linear(dim, num_classes)

    def forward(self, img):
        x = self.to_patch_embedding(img)
        b, n, _ = x.shape
        cls_tokens = repeat(self.cls_token, "1 1 d -> b 1 d", b=b)
        x = torch.cat((cls_tokens, x), dim=1)
        x += self.pos_embedding[:, : (n + 1)]
        for attn, ff in self.layers:
            x = attn(x) + x
            x = ff(x) + x
        return self.mlp_head(x[:, 0])


CASES = (
    case("vit_fused_qkv", ViT, normal(2, 3, 32, 32)),
    case("vit_separate_qkv", SeparateViT, normal(3, 3, 24, 25)),
    case("vit_einops", EinopsViT, normal(2, 3, 24, 24)),
)
