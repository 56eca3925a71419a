"""Three models of other packages go the whole way: wrap, train, sweep, shrink, save, load, and then to work."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery

# their own: of imports, of deprecated names, of what they say when they export
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WIDTHS = (1.0, 0.5, 0.25)


def whole_way(model: nn.Module, given: Any, loss: Callable[[Any], Tensor], folder: Path) -> nn.Module:
    """The small model of half the width, trained in the twin, and read back from its file."""
    fresh = copy.deepcopy(model)
    twin = surgery.wrap(model, given)
    optimizer = torch.optim.AdamW(twin.parameters(), 1e-3)
    losses = [stepped(twin, given, loss, optimizer) for _ in range(6)]
    assert min(losses) < losses[0]
    curve = surgery.sweep(twin.eval(), lambda net: -float(loss(called(net, given))), WIDTHS, progress=False)
    assert [p.params for p in curve] == sorted({p.params for p in curve}, reverse=True)
    small = surgery.shrink(twin, 0.5)
    surgery.save(small, folder / "small")
    again = surgery.load(folder / "small", fresh.eval(), given)
    surgery.verify(small, again, given, tolerance=0)
    assert type(again) is type(model)
    assert sum(p.numel() for p in again.parameters()) < 0.5 * sum(p.numel() for p in model.parameters())
    return again


def stepped(twin: nn.Module, given: Any, loss: Callable[[Any], Tensor], optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    value = surgery.train_step(twin.train(), given, loss, labels=1.0)
    optimizer.step()
    return float(value)


def called(net: nn.Module, given: Any) -> Any:
    return net(*given) if isinstance(given, tuple) else net(given)


def test_a_yolo_is_trained_exported_and_detects(tmp_path, monkeypatch) -> None:
    ultralytics = pytest.importorskip("ultralytics")
    from ultralytics.utils.loss import v8DetectionLoss

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yolo = ultralytics.YOLO("yolov8n.yaml", task="detect")
    model = yolo.model
    settings = model.args
    model.args = ultralytics.cfg.get_cfg(overrides={"model": "yolov8n.yaml"})  # as its trainer does
    criterion = v8DetectionLoss(model)
    model.args = settings
    boxes = {"batch_idx": torch.tensor([0.0, 1.0]), "cls": torch.tensor([[3.0], [7.0]])}
    boxes["bboxes"] = torch.tensor([[0.5, 0.5, 0.4, 0.6], [0.3, 0.6, 0.2, 0.3]])

    def loss(output: Any) -> Tensor:
        total: Tensor = criterion(output, boxes)[0]
        return total.sum()

    images = torch.rand(2, 3, 64, 64)
    small = whole_way(model, images, loss, tmp_path)
    yolo.model = small
    exported = torch.jit.load(yolo.export(format="torchscript", imgsz=64))
    small.eval()
    with torch.no_grad():
        torch.testing.assert_close(exported(images[:1]), small(images[:1])[0], rtol=1e-3, atol=1e-3)
    found = yolo.predict((images[0] * 255).byte().permute(1, 2, 0).numpy(), imgsz=64, conf=0.0, verbose=False)
    assert found[0].boxes.xyxy.isfinite().all()


def test_a_unet_of_stable_diffusion_is_trained_and_draws(tmp_path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(
        16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
    )
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100)
    latents, noise, text = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16), torch.randn(2, 7, 24)
    steps = torch.tensor([10, 70])
    noisy = scheduler.add_noise(latents, noise, steps)
    small = whole_way(model, (noisy, steps, text), lambda output: F.mse_loss(output.sample, noise), tmp_path)
    scheduler.set_timesteps(4)
    drawn = noise
    with torch.no_grad():
        for step in scheduler.timesteps:
            drawn = scheduler.step(small(drawn, step, text).sample, step, drawn).prev_sample
    assert drawn.shape == latents.shape and drawn.isfinite().all()
    exported = torch.export.export(small, (noisy, steps, text)).module()
    torch.testing.assert_close(exported(noisy, steps, text).sample, small(noisy, steps, text).sample)


def test_a_whisper_is_trained_and_transcribes(tmp_path) -> None:
    whisper = pytest.importorskip("whisper")
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    context, vocabulary = 20, 51864  # the tokens of English
    model = Whisper(ModelDimensions(16, context, 32, 4, 2, vocabulary, 24, 32, 4, 2))
    nn.init.normal_(model.decoder.positional_embedding, std=0.1)  # a checkpoint would fill it
    sound, tokens = torch.randn(2, 16, 2 * context), torch.randint(vocabulary, (2, 8))

    def loss(output: Tensor) -> Tensor:
        return F.cross_entropy(output[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    small = whole_way(model, (sound, tokens), loss, tmp_path)
    options = {"language": "en", "fp16": False, "sample_len": 6, "without_timestamps": True}
    greedy = whisper.decode(small, sound, whisper.DecodingOptions(**options))
    beam = whisper.decode(small, sound[0], whisper.DecodingOptions(**options, beam_size=2))
    assert len(greedy) == 2 and len(beam.tokens) > 0
    prompt = torch.tensor([[3, 5]])
    cache, hooks = small.install_kv_cache_hooks()
    heard = small.embed_audio(sound[:1])
    cached = small.decoder(prompt, heard, kv_cache=cache)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(cached, small.decoder(prompt, heard))
