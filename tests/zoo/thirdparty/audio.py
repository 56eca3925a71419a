"""Sound: separation, recognition, codecs (speechbrain, asteroid, torchaudio, encodec, demucs, conformer, whisper)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..recipe import Recipe, floats, given, ints, new, of, same

LENGTHS = ints(21, 2, low=20)  # all alike
FEATURES, WAVES = floats(2, 20, 24), floats(2, 1, 1600)
LOBES = "speechbrain.lobes.models"

speechbrain = same(given(FEATURES), LOBES, {
    "ecapa_tdnn": ("ECAPA_TDNN:ECAPA_TDNN", {"input_size": 24, "lin_neurons": 12, "channels": [16, 16, 16, 16, 48],
                                             "attention_channels": 10, "res2net_scale": 4, "se_channels": 10}),
    "xvector": ("Xvector:Xvector", {"in_channels": 24, "tdnn_channels": [16, 16, 16, 16, 30], "lin_neurons": 12}),
    "crdnn": ("CRDNN:CRDNN", {"input_shape": (2, 20, 24), "cnn_channels": [6, 8], "rnn_layers": 1, "rnn_neurons": 10,
                              "dnn_blocks": 1, "dnn_neurons": 14}),
    "resnet": ("ResNet:ResNet", {"input_size": 24, "channels": [8, 8, 12, 16], "block_sizes": [1, 1, 1, 1],
                                 "lin_neurons": 12}),
    "contextnet": ("ContextNet:ContextNet", {"input_shape": (2, 20, 24), "out_channels": 16,
                                             "conv_channels": [12, 16, 16], "strides": [1, 2, 1], "num_blocks": 3,
                                             "num_layers": 2}),
    "vanilla_nn": ("VanillaNN:VanillaNN", {"input_shape": (2, 20, 24), "dnn_neurons": 16}),
})  # fmt: skip
SPEECH: dict[str, Any] = {"d_model": 24, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 1, "d_ffn": 40,
                          "max_length": 50}  # fmt: skip
TARGETS = ints(30, 2, 6, low=1)
speechbrain |= {
    "transformer_asr": (new(f"{LOBES}.transformer.TransformerASR:TransformerASR", 30, 24, **SPEECH,
                            encoder_module="transformer"), given(FEATURES, TARGETS)),
    "conformer_asr": (new(f"{LOBES}.transformer.TransformerASR:TransformerASR", 30, 24, **SPEECH, kernel_size=5,
                          normalize_before=True, encoder_module="conformer", attention_type="RelPosMHAXL"),
                      given(FEATURES, TARGETS)),
    "conv_tasnet": (new(f"{LOBES}.conv_tasnet:MaskNet", 24, 12, 16, 3, 2, 2, 2), given(floats(2, 24, 30))),
    "sepformer": (new(f"{LOBES}.dual_path:Dual_Path_Model", 24, 16,
                      new(f"{LOBES}.dual_path:SBTransformerBlock", 1, 16, 2, d_ffn=20),
                      new(f"{LOBES}.dual_path:SBTransformerBlock", 1, 16, 2, d_ffn=20), K=10),
                  given(floats(2, 24, 30))),
    "hifigan": (new(f"{LOBES}.HifiGAN:HifiganGenerator", 24, 1, "1", [[1, 3, 5]] * 2, [3, 5], [8, 4], 16, [4, 2]),
                given(floats(2, 24, 10))),
}  # fmt: skip

asteroid = same(given(WAVES), "asteroid.models", {
    "conv_tasnet": ("ConvTasNet", {"n_src": 2, "n_blocks": 2, "n_repeats": 2, "bn_chan": 12, "hid_chan": 16,
                                   "skip_chan": 10, "n_filters": 24}),
    "dprnn": ("DPRNNTasNet", {"n_src": 2, "bn_chan": 12, "hid_size": 10, "chunk_size": 20, "n_repeats": 2,
                              "n_filters": 24}),
    "dptnet": ("DPTNet", {"n_src": 2, "n_heads": 2, "ff_hid": 20, "chunk_size": 20, "n_repeats": 1, "n_filters": 24}),
    "sudormrf": ("SuDORMRFNet", {"n_src": 2, "bn_chan": 12, "num_blocks": 2, "upsampling_depth": 2, "n_filters": 24}),
    "lstm_tasnet": ("LSTMTasNet", {"n_src": 2, "n_layers": 1, "hid_size": 12, "n_filters": 24}),
    "demask": ("DeMask", {"hidden_dims": (20,), "n_filters": 64, "stride": 32, "kernel_size": 64}),
    "dcunet": ("DCUNet", {"architecture": "mini", "stft_n_filters": 64, "stft_kernel_size": 64, "stft_stride": 32,
                          "fix_length_mode": "pad"}),
})  # fmt: skip

MELS = floats(2, 24, 20)
WAV2VEC = new("torchaudio.models:wav2vec2_model", "group_norm", [(16, 10, 5), (16, 3, 2)], False, 24, 0.0, 6, 2, 2, 2,
              0.0, 40, 0.0, 0.0, False, 0.0, 12)  # fmt: skip
torchaudio = {
    "conformer": (new("torchaudio.models:Conformer", 24, 2, 40, 2, 5), given(FEATURES, LENGTHS)),
    "emformer": (new("torchaudio.models:Emformer", 24, 2, 40, 2, 5), given(FEATURES, LENGTHS)),
    "conv_tasnet": (new("torchaudio.models:ConvTasNet", 2, 16, 24, 3, 12, 16, 2, 2), given(WAVES)),
    "deepspeech": (new("torchaudio.models:DeepSpeech", 24, 20, 12), given(floats(2, 1, 20, 24))),
    "wav2letter": (new("torchaudio.models:Wav2Letter", 12, "mfcc", 24), given(floats(2, 24, 60))),
    "wav2vec2": (WAV2VEC, given(floats(2, 800))),
    "wavernn": (new("torchaudio.models:WaveRNN", [2, 2], 16, 4, 2, 20, 24, 5, 10, 12, 14),
                given(floats(2, 1, 24), floats(2, 1, 10, 10))),
    "hdemucs": (new("torchaudio.models:HDemucs", ["a", "b"], 1, channels=4, nfft=1024, depth=5),
                given(floats(2, 1, 4096))),
}  # fmt: skip

SEANET: dict[str, Any] = {"channels": 1, "dimension": 16, "n_filters": 4, "ratios": [4, 2], "lstm": 1}
encodec = {
    "encoder": (new("encodec.modules:SEANetEncoder", **SEANET), given(floats(2, 1, 320))),
    "decoder": (new("encodec.modules:SEANetDecoder", **SEANET, causal=True), given(floats(2, 16, 20))),
    "encodec": (new("encodec.model:EncodecModel", new("encodec.modules:SEANetEncoder", **SEANET),
                    new("encodec.modules:SEANetDecoder", **SEANET),
                    new("encodec.quantization:ResidualVectorQuantizer", 16, 2, 16, kmeans_init=False),
                    [24.0], 16000, 1), given(floats(2, 1, 320))),
}  # fmt: skip

demucs = {
    "demucs": (new("demucs.demucs:Demucs", ["a", "b"], audio_channels=1, channels=8, depth=3, lstm_layers=1,
                   dconv_lstm=2, dconv_attn=2, resample=False), given(floats(2, 1, 1024))),
    "htdemucs": (new("demucs.htdemucs:HTDemucs", ["a", "b"], audio_channels=1, channels=8, nfft=1024, depth=3,
                     t_layers=2, t_heads=2, t_hidden_scale=2.0, samplerate=4096, segment=1), given(floats(2, 1, 4096))),
}  # fmt: skip

DIMS = new("whisper.model:ModelDimensions", 16, 20, 32, 4, 2, 60, 12, 32, 4, 2)


def filled(model: Any) -> Any:
    """A Whisper whose positions are drawn: its constructor leaves them to a checkpoint."""
    nn.init.normal_(model.decoder.positional_embedding, std=0.1)
    return model


whisper = {
    "whisper": (
        new(f"{__name__}:filled", new("whisper.model:Whisper", DIMS)),
        given(floats(2, 16, 40), ints(60, 2, 7)),
    )
}

RECIPES: dict[str, Recipe] = {
    **of("speechbrain", speechbrain), **of("asteroid", asteroid), **of("torchaudio", torchaudio),
    **of("encodec", encodec), **of("demucs", demucs), **of("whisper", whisper),
    **of("conformer", {"conformer": (new("conformer:Conformer", 24, depth=2, dim_head=10, heads=2, conv_kernel_size=5),
                                     given(FEATURES))}),
}  # fmt: skip
