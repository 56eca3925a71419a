"""DeepSpeed on two ranks: stages 0 to 2 of ZeRO train a twin as one process does; stage 3 is refused."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.errors import InputError
from tests.cluster.transformer import X, batch, built, furthest
from tests.processes import launched

NARROW = [0.5, 0.25]
PASSES = 1 + len(NARROW)
RATE = 0.1
REFUSED = r"is empty, and should be .* Take stage 1 or 2, or shard it with FSDP2"


def engine_of(model: nn.Module, stage: int, passes: int) -> Any:
    import deepspeed

    settings = {
        "train_batch_size": 8 * passes,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": 0.0,
        "optimizer": {"type": "SGD", "params": {"lr": RATE}},
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
    }
    return deepspeed.initialize(model=model, model_parameters=model.parameters(), config=settings)[0]


def share(step: int, rank: int) -> tuple[Tensor, Tensor]:
    x, y = batch(step)
    return x.float().chunk(2)[rank], y.chunk(2)[rank]


def loss_of(y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda output: F.cross_entropy(output, y)


def twin() -> Any:
    return surgery.wrap(built().float(), X.float()).train()


def one_rank(folder: Path, stage: int) -> None:
    import deepspeed

    rank = int(os.environ["RANK"])
    deepspeed.init_distributed(dist_backend="gloo")
    loop, steps = twin(), twin()
    engine = engine_of(loop, stage, 1)
    if stage == 3:
        for call in (lambda: engine(share(0, rank)[0]), lambda: surgery.shrink(loop, 0.5)):
            with pytest.raises(InputError, match=REFUSED):
                call()
        return
    for step in range(4):  # as it is
        x, y = share(step, rank)
        engine.backward(F.cross_entropy(engine(x), y))
        engine.step()
    engine = engine_of(steps, stage, PASSES)

    def backward(loss: Tensor) -> None:
        engine.backward(PASSES * loss)
        engine.step()

    for step in range(3):
        x, y = share(step, rank)
        surgery.train_step(engine, x, loss_of(y), narrow=NARROW, distil=surgery.kl(1), backward=backward)
    surgery.shrink(steps, 0.5)
    if rank == 0:
        torch.save([loop.state_dict(), steps.state_dict()], folder / "states")


def alone() -> list[nn.Module]:
    """The same on one process."""
    loop, steps = twin(), twin()
    optimizers = [torch.optim.SGD(model.parameters(), lr=RATE) for model in (loop, steps)]
    for step in range(4):
        x, y = batch(step)
        optimizers[0].zero_grad()
        F.cross_entropy(loop(x.float()), y).backward()
        optimizers[0].step()
    for step in range(3):
        x, y = batch(step)
        optimizers[1].zero_grad()
        surgery.train_step(steps, x.float(), loss_of(y), narrow=NARROW, distil=surgery.kl(1))
        optimizers[1].step()
    return [loop, steps]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_twin_trains_in_deepspeed(stage: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    for name, value in {"DS_ACCELERATOR": "cpu", "LOCAL_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    code = f"from tests.integrations.test_deepspeed import *; one_rank(Path({str(tmp_path)!r}), {stage})"
    launched(code)
    if stage < 3:
        for state, model in zip(torch.load(tmp_path / "states"), alone(), strict=True):
            assert furthest(state, model.state_dict()) < 1e-5  # float32, sums in another order
