"""Tokens and time series: x_transformers, peft, chronos, braindecode and others."""

from __future__ import annotations

from typing import Any

from ..recipe import Recipe, floats, given, ints, new, of, same

TOKENS = given(ints(60, 2, 12))
X = "x_transformers"
LAYERS: dict[str, Any] = {"dim": 32, "depth": 2, "heads": 4, "attn_dim_head": 10}


def _wrapped(kind: str, **layers: Any) -> tuple[Any, Any]:
    built = new(f"{X}:{kind}", **LAYERS, **layers)
    return new(f"{X}:TransformerWrapper", num_tokens=60, max_seq_len=12, attn_layers=built), TOKENS


x_transformers = {
    "gpt": _wrapped("Decoder"),
    "bert": _wrapped("Encoder"),
    "llama": _wrapped("Decoder", rotary_pos_emb=True, ff_swish=True, ff_glu=True, use_rmsnorm=True, attn_kv_heads=2),
    "alibi": _wrapped("Decoder", alibi_pos_bias=True, ff_relu_squared=True),
    "sandwich": _wrapped("Encoder", sandwich_norm=True, attn_pre_talking_heads=True, rel_pos_bias=True),
    "qk_norm": _wrapped("Decoder", attn_qk_norm=True, attn_gate_values=True, attn_num_mem_kv=3),
    "macaron": _wrapped("Encoder", macaron=True, use_scalenorm=True, gate_residual=True),
    "vit": (new(f"{X}:ViTransformerWrapper", image_size=32, patch_size=8, num_classes=5,
                attn_layers=new(f"{X}:Encoder", **LAYERS)), given(floats(2, 3, 32, 32))),
    "continuous": (new(f"{X}:ContinuousTransformerWrapper", max_seq_len=12, dim_in=10, dim_out=6,
                       attn_layers=new(f"{X}:Encoder", **LAYERS)), given(floats(2, 12, 10))),
    "xtransformer": (
        new(f"{X}:XTransformer", dim=32, enc_num_tokens=60, enc_depth=1, enc_heads=4, enc_max_seq_len=12,
            dec_num_tokens=60, dec_depth=1, dec_heads=4, dec_max_seq_len=12), given(ints(60, 2, 12), ints(60, 2, 12))),
}  # fmt: skip

HEADS: dict[str, Any] = {"dim": 32, "depth": 2, "heads": 4}
efficient = {
    **of("linformer", {"lm": (new("linformer:LinformerLM", 60, 32, 12, 2, k=6, heads=4), TOKENS),
                       "shared": (new("linformer:Linformer", 32, 12, 2, k=6, heads=4, one_kv_head=True, share_kv=True),
                                  given(floats(2, 12, 32)))}),
    **of("performer_pytorch", {
        "lm": (new("performer_pytorch:PerformerLM", num_tokens=60, max_seq_len=12, dim_head=8, **HEADS), TOKENS),
        "relu": (new("performer_pytorch:PerformerLM", num_tokens=60, max_seq_len=12, dim_head=8, **HEADS,
                     generalized_attention=True, ff_glu=True), TOKENS)}),
    **of("local_attention", {
        "local": (new("local_attention:LocalTransformer", num_tokens=60, max_seq_len=12, dim_head=10, **HEADS,
                      local_attn_window_size=4), TOKENS)}),
    **of("nystrom_attention", {
        "nystromformer": (new("nystrom_attention:Nystromformer", **HEADS, dim_head=10, num_landmarks=4),
                          given(floats(2, 12, 32)))}),
    **of("mambapy", {"mamba": (new("mambapy.mamba:Mamba", new("mambapy.mamba:MambaConfig", d_model=16, n_layers=2)),
                               given(floats(2, 8, 16)))}),
    **of("pytorch_tcn", {"tcn": (new("pytorch_tcn:TCN", 6, [12, 16, 20]), given(floats(2, 6, 30)))}),
    **of("iTransformer", {
        "itransformer": (new("iTransformer:iTransformer", num_variates=5, lookback_len=24, dim=32, depth=2, heads=4,
                             dim_head=10, pred_length=6), given(floats(2, 24, 5)))}),
}  # fmt: skip

T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 4}
FORECAST: dict[str, Any] = {"context_length": 32, "input_patch_size": 8, "input_patch_stride": 8,
                            "quantiles": [0.1, 0.5, 0.9], "use_reg_token": True}  # fmt: skip
chronos = {
    "bolt": (new("chronos.chronos_bolt:ChronosBoltModelForForecasting",
                 new("transformers:T5Config", **T5, vocab_size=2, feed_forward_proj="relu", reg_token_id=1,
                     pad_token_id=0, decoder_start_token_id=0,
                     chronos_config={**FORECAST, "prediction_length": 8})),
             given(floats(2, 32))),
    "chronos2": (new("chronos.chronos2:Chronos2Model",
                     new("chronos.chronos2.config:Chronos2CoreConfig", d_model=32, d_kv=8, d_ff=48, num_layers=2,
                         num_heads=4, vocab_size=2, reg_token_id=1,
                         chronos_config={**FORECAST, "output_patch_size": 8})),
                 given(floats(2, 32))),
}  # fmt: skip

BERT = new("transformers:BertConfig", vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
           intermediate_size=48, max_position_embeddings=20)  # fmt: skip
LLAMA = new("transformers:LlamaConfig", vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=48, use_cache=False)  # fmt: skip
TUNED = "peft:get_peft_model"
peft = {
    "lora_bert": (new(TUNED, new("transformers:BertForSequenceClassification", BERT),
                      new("peft:LoraConfig", r=4, target_modules=["query", "value"], task_type="SEQ_CLS")), TOKENS),
    "lora_llama": (new(TUNED, new("transformers:LlamaForCausalLM", LLAMA),
                       new("peft:LoraConfig", r=4, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"])),
                   TOKENS),
    "dora_llama": (new(TUNED, new("transformers:LlamaForCausalLM", LLAMA),
                       new("peft:LoraConfig", r=4, target_modules=["q_proj", "o_proj"], use_dora=True)), TOKENS),
    "ia3_bert": (new(TUNED, new("transformers:BertModel", BERT),
                     new("peft:IA3Config", target_modules=["key", "value"], feedforward_modules=[])), TOKENS),
}  # fmt: skip

EEG: dict[str, Any] = {"n_chans": 6, "n_outputs": 3, "n_times": 400, "sfreq": 100}
braindecode = same(given(floats(2, 6, 400)), "braindecode.models", {
    "eegnet": ("EEGNet", EEG),
    "shallow_fbcsp": ("ShallowFBCSPNet", EEG),
    "deep4": ("Deep4Net", EEG),
    "eeg_conformer": ("EEGConformer", EEG),
    "atcnet": ("ATCNet", EEG),
    "tidnet": ("TIDNet", EEG),
    "inception_erp": ("EEGInceptionERP", EEG),
})  # fmt: skip

SENTENCE = "sentence_transformers"
sentences = {
    "dense": (new("torch.nn:Sequential", new(f"{SENTENCE}.models:Pooling", 24),
                  new(f"{SENTENCE}.models:Dense", 24, 32), new(f"{SENTENCE}.models:Dense", 32, 8)),
              given({"token_embeddings": floats(2, 5, 24), "attention_mask": ints(2, 2, 5, low=1)})),
}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    **of(X, x_transformers), **efficient, **of("chronos", chronos), **of("peft", peft),
    **of("braindecode", braindecode), **of(SENTENCE, sentences),
}  # fmt: skip
