"""Models around PyTorch's own transformer modules."""

import math

import torch
from torch import nn

from .case import case, normal, tokens


def padded(vocabulary, rows, length):
    """Tokens from 1 on, each row but the first with zeros at its end: what torch turns into a nested tensor."""

    def draw(g):
        ids = torch.randint(1, vocabulary, (rows, length), generator=g)
        return ids * (torch.arange(length) < torch.arange(length, length - rows, -1)[:, None])

    return draw


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=40):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[: x.size(1)]


class Seq2Seq(nn.Module):
    def __init__(self, src_vocab=37, tgt_vocab=43, d_model=24, nhead=4, dim_feedforward=40):
        super().__init__()
        self.d_model = d_model
        self.src_embed = nn.Embedding(src_vocab, d_model)
        self.tgt_embed = nn.Embedding(tgt_vocab, d_model)
        self.pos = PositionalEncoding(d_model)
        self.transformer = nn.Transformer(
            d_model=d_model,
            nhead=nhead,
            num_encoder_layers=1,
            num_decoder_layers=2,
            dim_feedforward=dim_feedforward,
            dropout=0.0,
            batch_first=True,
        )
        self.generator = nn.Linear(d_model, tgt_vocab)

    def forward(self, src, tgt):
        src = self.pos(self.src_embed(src) * math.sqrt(self.d_model))
        tgt = self.pos(self.tgt_embed(tgt) * math.sqrt(self.d_model))
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1), device=tgt.device, dtype=tgt.dtype)
        return self.generator(self.transformer(src, tgt, tgt_mask=mask))


class EncoderClassifier(nn.Module):
    def __init__(self, vocab=47, d_model=40, nhead=4, dim_feedforward=56, num_layers=2, num_classes=5):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.pos = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.fc = nn.Linear(d_model, num_classes)

    def forward(self, x):
        x = self.encoder(self.pos(self.embedding(x)))
        return self.fc(x.mean(dim=1))


class PaddedEncoder(nn.Module):
    """Padding marked with 0; layers at their defaults, so that evaluation takes the fused path."""

    def __init__(self, vocab=31, d_model=36, nhead=6, num_classes=4, nested=False):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model, padding_idx=0)
        layer = nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward=44, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=nested)
        self.fc = nn.Linear(d_model, num_classes)

    def forward(self, ids):
        padding = ids == 0
        x = self.encoder(self.embedding(ids), src_key_padding_mask=padding)
        keep = (~padding).unsqueeze(-1).to(x.dtype)
        return self.fc((x * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1))


class CrossAttention(nn.Module):
    """Queries of 24 features look at keys of 20 and values of 28. Tensors are (time, batch, features)."""

    def __init__(self, embed_dim=24, num_heads=4, kdim=20, vdim=28):
        super().__init__()
        self.embed = nn.Linear(15, embed_dim)
        self.to_key = nn.Linear(11, kdim)
        self.to_value = nn.Linear(11, vdim)
        self.attention = nn.MultiheadAttention(embed_dim, num_heads, kdim=kdim, vdim=vdim)
        self.norm = nn.LayerNorm(embed_dim)
        self.self_attention = nn.MultiheadAttention(embed_dim, 3)
        self.out = nn.Linear(embed_dim, 9)

    def forward(self, x, memory):
        x = self.embed(x)
        attended, _ = self.attention(x, torch.relu(self.to_key(memory)), torch.relu(self.to_value(memory)))
        x = self.norm(x + attended)
        x = x + self.self_attention(x, x, x, need_weights=False)[0]
        return self.out(x)


CASES = (
    case("transformer", Seq2Seq, tokens(37, 3, 10), tokens(43, 3, 7)),
    case("transformer_encoder", EncoderClassifier, tokens(47, 3, 12)),
    case("transformer_encoder_padded", PaddedEncoder, tokens(31, 4, 30)),
    case("transformer_encoder_nested", PaddedEncoder, padded(31, 4, 12), nested=True),
    case("multihead_attention", CrossAttention, normal(6, 3, 15), normal(10, 3, 11)),
)
