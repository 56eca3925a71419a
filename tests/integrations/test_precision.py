"""After trainers with mixed precision, and adapters: a twin has drawn, still draws, is cut and proven, and is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.processes import launched
from tests.small_models import mlp, watched

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

from accelerate.utils import extract_model_from_parallel  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # of the trainers themselves
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    "ignore:'pin_memory' argument is set:UserWarning",
    "ignore:User provided device_type of 'cuda':UserWarning",
)
X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long() + (X[:, 0] > 1).long()


def goes_on(wrapped: Any, plain: nn.Module, inputs: Any, layer: str, folder: Path) -> None:
    """A twin draws in training, `shrink` proves its result, which is plain, runs on its own weights, and is saved."""
    seen = watched(wrapped.get_submodule(layer))
    run: Callable[[Any], Any] = lambda model: model(**inputs) if isinstance(inputs, dict) else model(inputs)  # noqa: E731
    wrapped.train()
    for _ in range(16):
        run(wrapped)
    assert len(set(seen)) > 2
    for small in (surgery.shrink(wrapped, 0.5), surgery.shrink(wrapped, 0.5, refit=[inputs])):
        assert 2 * small.get_submodule(layer).out_features == max(seen)
        assert not {"forward", "_original_forward"} & vars(small).keys()
        surgery.save(small, folder / "small")
        again = surgery.load(folder / "small", plain, inputs)
        assert all(map(torch.equal, small.state_dict().values(), again.state_dict().values()))
        with torch.no_grad():
            for parameter in small.parameters():
                parameter.zero_()
        assert not any(x.any() for x in _floats(run(small)))
    assert surgery.verify(surgery.sort(wrapped), surgery.unwrap(wrapped), inputs) < 1e-4


def _floats(output: Any) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else [output.logits]


# --- accelerate ---

LEFT: dict[str, Callable[[Any, Any], Any]] = {
    "as it is": lambda accelerator, model: model,
    "unwrapped": lambda accelerator, model: accelerator.unwrap_model(model),
    "unwrapped, without its precision": lambda a, model: a.unwrap_model(model, keep_fp32_wrapper=False),
    "extracted": lambda accelerator, model: extract_model_from_parallel(model, keep_fp32_wrapper=False),
    "extracted, recursive": lambda accelerator, model: extract_model_from_parallel(model, recursive=True),
}


def train_with(accelerator: Any, steps: int = 4, **options: Any) -> tuple[Any, Any]:
    """What accelerate has made of a twin, after a few steps of an unchanged loop; and the twin."""
    twin = surgery.wrap(mlp(6, 16, 16, 3), X, **options).train()
    model, optimizer = accelerator.prepare(twin, torch.optim.SGD(twin.parameters(), lr=0.1))
    for i in range(steps):
        rows = slice(12 * (i % 4), 12 * (i % 4) + 12)
        optimizer.zero_grad()
        accelerator.backward(F.cross_entropy(model(X[rows]), Y[rows]))
        optimizer.step()
    return model, twin


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_after_accelerate(precision: str, left: str, tmp_path: Path) -> None:
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    model, _ = train_with(accelerator)
    goes_on(LEFT[left](accelerator, model), mlp(6, 16, 16, 3), X, "0", tmp_path)


@pytest.mark.parametrize("again", [False, True])
def test_a_prepared_twin_draws_as_it_would_without(again: bool) -> None:
    plain = surgery.wrap(mlp(6, 16, 16, 3), X).train()
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    twin = surgery.wrap(mlp(6, 16, 16, 3), X).train()
    model = accelerator.prepare(twin)
    if again:
        model = accelerator.prepare(accelerator.unwrap_model(model, keep_fp32_wrapper=False))
    seen = [watched(each[0]) for each in (plain, twin)]
    for _ in range(12):
        plain(X), model(X)
    assert seen[0] == seen[1] and len(set(seen[0])) > 2
    assert isinstance(twin.forward, MethodType) and twin.forward.__self__ is twin


def one_rank(folder: Path) -> None:
    """Trains under accelerate with bf16, as one of two, and keeps what came out."""
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    model, twin = train_with(accelerator, draw=surgery.mixed())
    assert accelerator.num_processes == 2 and isinstance(model, nn.parallel.DistributedDataParallel)
    for keep in (True, False):
        assert accelerator.unwrap_model(model, keep_fp32_wrapper=keep) is twin
        small = surgery.shrink(twin, 0.5)
        assert small[0].out_features == 8
    seen = watched(twin[0])
    for _ in range(8):
        model(X)
    torch.save([twin.state_dict(), small.state_dict(), seen], folder / f"{accelerator.process_index}.pt")
    accelerator.end_training()


def test_two_ranks_with_bf16(tmp_path: Path) -> None:
    launched(f"from tests.integrations.test_precision import *; one_rank(Path({str(tmp_path)!r}))")
    (whole, small, seen), (*others, other) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for state, same in zip((whole, small), others, strict=True):
        assert all(torch.equal(same[name], tensor) for name, tensor in state.items())
    assert seen == other and len(set(seen)) > 2


# --- transformers, TRL and PEFT ---

LAYER = "model.layers.0.mlp.gate_proj"


def llama() -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


TOKENS = torch.randint(0, 32, (16, 6), generator=torch.Generator().manual_seed(0))
INPUTS = {"input_ids": TOKENS[:2]}
COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 2, "max_steps": 8, "report_to": [], "use_cpu": True, "disable_tqdm": True,
    "save_strategy": "no", "learning_rate": 1e-2, "lr_scheduler_type": "constant", "gradient_checkpointing": False,
}  # fmt: skip


@pytest.mark.parametrize("options", [{"bf16": True}, {"fp16": True}, {"bf16": True, "gradient_checkpointing": True}])
def test_after_the_trainer_of_transformers(options: dict[str, bool], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    wrapped = surgery.wrap(llama(), INPUTS)
    seen = watched(wrapped.get_submodule(LAYER))
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), **COMMON | options)
    rows = [{"input_ids": row, "labels": row} for row in TOKENS]
    transformers.Trainer(model=wrapped, args=arguments, train_dataset=rows).train()
    assert len(seen) >= 8 and len(set(seen)) > 2
    goes_on(wrapped, llama(), INPUTS, LAYER, tmp_path)


def sft(model: Any, folder: Path, **options: Any) -> Any:
    trl = pytest.importorskip("trl", reason="trl is not installed")
    datasets, tokenizers = pytest.importorskip("datasets"), pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = tokenizers.models.WordLevel({str(i): i for i in range(32)}, unk_token="0")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(words), pad_token="0", eos_token="1"
    )
    data = datasets.Dataset.from_list([{"input_ids": row} for row in TOKENS.tolist()])
    arguments = trl.SFTConfig(output_dir=str(folder), **COMMON | {"bf16": False} | options)
    trainer = trl.SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    trainer._get_train_sampler = lambda rows: torch.utils.data.SequentialSampler(rows)
    return trainer


@pytest.mark.parametrize("precision", [False, True], ids=["fp32", "bf16"])
def test_after_the_trainer_of_trl_which_never_runs_the_forward_of_the_model(precision: bool, tmp_path: Path) -> None:
    wrapped = surgery.wrap(llama(), INPUTS)
    seen = watched(wrapped.get_submodule(LAYER))
    sft(wrapped, tmp_path, bf16=precision).train()
    assert len(seen) == 8 and len(set(seen)) > 2
    goes_on(wrapped, llama(), INPUTS, LAYER, tmp_path)


def test_the_metrics_of_trl_stay_those_of_the_full_width(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    from surgery.integrations.transformers import SurgeryCallback

    trainer = sft(surgery.wrap(llama(), INPUTS), tmp_path, logging_steps=2)
    data = trainer.train_dataset
    expected = trainer.evaluate(data)
    trainer.add_callback(SurgeryCallback(trainer, (0.25,)))
    found = trainer.evaluate(data)
    for name in ("eval_loss", "eval_mean_token_accuracy"):
        assert found[name] == expected[name]
        assert name.replace("eval_", "eval_width_0.25_") in found
    assert found["eval_width_0.25_loss"] != found["eval_loss"]
    history = trainer.state.log_history
    assert [name for row in history for name in row].count("eval_mean_token_accuracy") == 2
    trainer.train()
    rows = [row for row in trainer.state.log_history if "surgery/width" in row]
    assert len(rows) == 4 and all("mean_token_accuracy" not in row for row in rows)


def test_the_trainer_of_trl_trains_what_a_plain_loop_trains(tmp_path: Path) -> None:
    wrapped, plain = (surgery.wrap(llama(), INPUTS).train() for _ in range(2))
    sft(wrapped, tmp_path, optim="sgd", max_grad_norm=0).train()
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-2)
    for rows in TOKENS.split(2):
        optimizer.zero_grad()
        plain(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
    for (name, p), q in zip(wrapped.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name)


def lora(**options: Any) -> Any:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    return peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False, **options)


def test_a_model_with_adapters_is_wrapped_trained_and_cut(tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = peft.get_peft_model(llama(), lora())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wrapped = surgery.wrap(model, INPUTS)
    layer = f"base_model.model.{LAYER}"
    seen = watched(wrapped.get_submodule(layer))
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), bf16=True, **COMMON)
    rows = [{"input_ids": row, "labels": row} for row in TOKENS]
    transformers.Trainer(model=wrapped, args=arguments, train_dataset=rows).train()
    assert len(set(seen)) > 2
    changed = {name for name, p in wrapped.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all("lora_" in name for name in changed), "only adapters learn"
    small = surgery.shrink(wrapped, 0.5)
    merged = surgery.shrink(wrapped, 0.5).merge_and_unload()
    assert surgery.verify(small, merged, INPUTS) < 1e-4 and "Llama" in type(merged).__name__
    goes_on(wrapped, peft.get_peft_model(llama(), lora()), INPUTS, layer, tmp_path)


@pytest.mark.parametrize("how", ["get_peft_model", "inject_adapter_in_model"])
def test_adapters_that_are_put_into_a_wrapped_model_are_refused(how: str) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    wrapped = surgery.wrap(llama(), INPUTS, draw=surgery.grid([0.5])).train()
    into = peft.get_peft_model(wrapped, lora()) if how == "get_peft_model" else wrapped
    if into is wrapped:
        peft.inject_adapter_in_model(lora(), wrapped)
    message = r"q_proj \(Linear\) was put in after wrapping.*do it before surgery\.wrap"
    with pytest.raises(surgery.InputError, match=message):
        into(**INPUTS)
    with pytest.raises(surgery.InputError, match=message):
        surgery.shrink(wrapped, 0.5)
