"""Spellings that fragments share: `$name(...)` in a text stands for one of them."""

from __future__ import annotations

WORDS: dict[str, list[str]] = {
    # a half of an even integer
    "half": """{0} // 2 || int({0} / 2) || int({0} * 0.5) || ({0} >> 1) || divmod({0}, 2)[0] || {0} - {0} // 2 ||
        round({0} / 2) || math.floor({0} / 2) || int({0} // 2) || math.ceil({0} / 2)""".split("||"),
    # how often one integer goes into another
    "per": "{0} // {1} || int({0} / {1}) || divmod({0}, {1})[0] || int({0} // {1})".split("||"),
    # the last dimension, and others
    "last": """{0}.shape[-1] || {0}.size(-1) || {0}.size()[-1] || {0}.shape[{0}.dim() - 1] || {0}.size(dim=-1) ||
        list({0}.shape)[-1] || int({0}.shape[-1]) || {0}.shape[-1:][0] || {0}.shape[-1:].numel()""".split("||"),
    "dim": "{0}.shape[{1}] || {0}.size({1}) || {0}.size()[{1}] || int({0}.size({1}))".split("||"),
    # batch and positions of (batch, positions, features)
    "bt": """b, t, _ = {0}.shape || b, t = {0}.shape[:2] || b, t = {0}.size(0), {0}.size(1) || b, t, *_ = {0}.size() ||
        b, t, c = {0}.size() || (b, t), c = {0}.shape[:-1], {0}.shape[-1] || b, t = len({0}), {0}.shape[1]""".split("||"),
    "act": """F.relu({0}) || F.gelu({0}) || {0}.tanh() || F.silu({0}) || torch.relu({0}) ||
        {0} * torch.sigmoid({0}) || nn.functional.softplus({0}) || F.leaky_relu({0}, 0.1) || {0}.clamp(min=0) ||
        torch.where({0} > 0, {0}, 0.1 * {0})""".split("||"),
    "gate": "{0} * torch.sigmoid({1}) || {0} * {1}.sigmoid() || F.silu({1}) * {0} || torch.mul({0}, {1}.tanh())".split(
        "||"
    ),
    # what constructors of real code make sure of
    "check": """assert $last({0}) == @c || if {0}.size(-1) != @c:
            raise ValueError("features: " + str({0}.size(-1))) || || || assert @heads * @d == self.proj.in_features, "heads" ||
            """.split("||"),
    # heads, of (batch, heads, positions, width of a head); needs @heads and @d
    "attend": [
        "y = F.scaled_dot_product_attention({0}, {1}, {2}<|, attn_mask=None if mask is None else mask[:, None, None, :].bool() || |>)",
        """
        scores = {0} @ {1}.<|transpose(-2, -1)||mT||transpose(2, 3)||permute(0, 1, 3, 2)|> <scale|
            * @d ** -0.5 || / math.sqrt($last({0})) || * self.scale || / {0}.shape[-1] ** 0.5 || * 0.5|>
        <|if mask is not None:
            scores = scores.masked_fill(mask[:, None, None, :] == 0, <|-1e9||torch.finfo(scores.dtype).min|>)||
        if mask is not None:
            scores = scores + (1.0 - mask.to(scores.dtype))[:, None, None] * -1e9|>
        <|self.weights = scores.softmax(-1)
        y = self.weights @ {2}||y = scores.softmax(dim=-1) @ {2}||y = torch.matmul(F.softmax(scores, -1), {2})|>
        """,
        """
        scores = torch.einsum(<|"bhqd,bhkd->bhqk"||"b h i d, b h j d -> b h i j"||"...id,...jd->...ij"|>, {0}, {1})
        scores = scores <scale|* @d ** -0.5 || / math.sqrt($last({0})) || * self.scale || / {0}.shape[-1] ** 0.5 || * 0.5|>
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :].bool(), -1e9)
        y = torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), {2})
        """,
        """
        future = torch.ones(t, t, dtype=torch.bool, device=x.device).<|triu(1)||tril().logical_not()|>
        scores = ({0} * <|@d ** -0.5||{0}.size(-1) ** -0.5|>) @ {1}.transpose(-2, -1)
        y = scores.masked_fill(future, float("-inf")).softmax(-1) @ {2}
        """,
        """
        scores = torch.bmm({0}.flatten(0, 1), {1}.flatten(0, 1).transpose(1, 2)) / math.sqrt(<|@d||$last({0})|>)
        y = torch.bmm(scores.softmax(-1), {2}.flatten(0, 1)).view(b, <|@heads||-1||{0}.shape[1]|>, t, <|@d||{2}.size(-1)|>)
        """,
        "y = torch.stack([F.scaled_dot_product_attention(*z) for z in zip({0}.unbind(1), {1}.unbind(1), {2}.unbind(1))], 1)",
        """
        scale = 1.0 / math.sqrt(<|@d||@heads * @d // @heads||self.proj.in_features // @heads|>)
        y = (({0} @ {1}.mT) * scale).softmax(-1) @ {2}
        """,
    ],
    # (batch, heads, positions, width of a head) y to (batch, positions, features)
    "merge": [
        "y = y.transpose(1, 2).<|reshape||contiguous().view|>(b, t, <|@heads * @d||-1||self.proj.in_features||y.shape[1] * y.shape[3]|>)",
        "y = y.transpose(1, 2).<|flatten(2)||flatten(-2)||flatten(start_dim=2)||reshape(*x.shape[:2], -1)|>",
        'y = rearrange(y, <|"b h t d -> b t (h d)"||"b h t d -> b t (h d)", h=@heads||"... h t d -> ... t (h d)"|>)',
        "y = torch.cat([y[:, i] for i in range(@heads)], dim=-1)",
        "y = torch.cat(y.unbind(1), -1)",
        "y = torch.stack(y.unbind(dim=1), dim=2).flatten(2)",
        "y = y.permute(0, 2, 1, 3).reshape(b, -1, @heads * @d)",
        """
        parts = x.new_zeros(b, t, @heads * @d)
        for i in range(@heads):
            parts[<|..., ||:, :, |>i * @d : (i + 1) * @d] = y[:, i]
        y = parts
        """,
        """
        b, h, t, d = y.shape
        y = y.transpose(1, 2).reshape(b, t, h * d)
        """,
        "y = y.movedim(1, 2).reshape(y.size(0), y.size(2), -1)",
    ],
    "norm": ["nn.LayerNorm({0})", "nn.RMSNorm({0})", "nn.LayerNorm([{0}], eps=1e-6)", "nn.LayerNorm({0}, elementwise_affine=False)"],
}  # fmt: skip
