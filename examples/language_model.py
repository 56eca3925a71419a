# %% [markdown]
# # One training, three Llamas
#
# A tiny Llama with random weights learns the bytes of a text (by default the sources of Python's own library) under
# the Trainer of transformers, whose loop is left as it is: the wrapped model draws a width at every training forward.
# Three sizes of it are then saved by `save_pretrained`, and read by `from_pretrained` in a new process, which needs
# transformers alone.
#
#     python examples/language_model.py                # --quick for a first look
#     python examples/language_model.py --text FILE

# %%
import argparse
import math
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

import surgery

parser = argparse.ArgumentParser(description="One training, three Llamas.")
parser.add_argument("--text", help="a file to learn; by default sources of Python's own library")
parser.add_argument("--out", default="language-model-out", help="the folder that is written")
parser.add_argument("--quick", action="store_true", help="a few steps")
options = parser.parse_args([] if "get_ipython" in globals() else None)
out = Path(options.out)
set_seed(0)
torch.set_num_threads(1)  # tensors are tiny: several threads would wait for each other

# %% [markdown]
# ## The text, as bytes

# %%
LENGTH = 64  # bytes in a row
files = [Path(options.text)] if options.text else sorted(Path(argparse.__file__).parent.glob("[a-d]*.py"))
text = torch.frombuffer(bytearray(b"".join(file.read_bytes() for file in files)), dtype=torch.uint8).long()
rows = text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH)  # (N, LENGTH)
held, train = rows[::20][:128], [{"input_ids": row, "labels": row} for i, row in enumerate(rows) if i % 20]
print(f"{len(text):,} bytes of {len(files)} files: {len(train):,} rows to train on, {len(held)} to choose on")

# %% [markdown]
# ## The model, and its twin
#
# `tie="config"` ties widths as the class's configuration can say them (one `intermediate_size` for all layers), so
# that every small model is one that `save_pretrained` takes.

# %%
config = LlamaConfig(
    vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=LENGTH, initializer_range=0.1, use_cache=False,
)  # fmt: skip
model = LlamaForCausalLM(config)
wrapped = surgery.wrap(model, {"input_ids": held[:2]}, tie="config")
print(surgery.inspect(wrapped))

# %% [markdown]
# ## An unchanged loop
#
# The Trainer is told nothing. What it trains are the parameters of `model`.

# %%
arguments = TrainingArguments(
    output_dir=str(out / "trainer"), max_steps=10 if options.quick else 1200, per_device_train_batch_size=16,
    learning_rate=5e-3, lr_scheduler_type="cosine", warmup_steps=100, logging_steps=200, save_strategy="no",
    dataloader_pin_memory=False, report_to=[], seed=0, disable_tqdm=True,
)  # fmt: skip
Trainer(model=wrapped, args=arguments, train_dataset=train).train()


# %% [markdown]
# ## All widths
#
# Higher is better, so the score is the negative loss, in bits for each byte. These are widths that were drawn: those
# between them were not, and are worse.


# %%
def validate(model: nn.Module) -> Tensor:
    inputs = held.to(next(model.parameters()).device)
    return -model(input_ids=inputs, labels=inputs).loss / math.log(2)


curve = surgery.sweep(wrapped, validate, widths=(1.0, 0.5, 0.25, 0.125), progress=False, measure_latency=False)
print(curve)

# %% [markdown]
# ## Three sizes, and a new process
#
# Each is a plain `LlamaForCausalLM` with a configuration of its own. The new process imports nothing but
# transformers.

# %%
READ = """
import sys
import torch
from transformers import AutoModelForCausalLM

for folder in sys.argv[1:]:
    small = AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.tensor([list(b"import ")])
    said = small.generate(tokens, max_new_tokens=12, do_sample=False, pad_token_id=0)
    print(folder, small.num_parameters(), repr(bytes(said[0].tolist()).decode(errors="replace")))
"""
folders = []
for fraction in (1.0, 0.5, 0.25):
    small = surgery.shrink(wrapped, fraction).cpu()
    folders.append(out / f"llama-{fraction:g}")
    small.save_pretrained(folders[-1])
    sizes = small.config.hidden_size, small.config.intermediate_size, small.config.num_attention_heads
    print(f"saved {folders[-1]}: {small.num_parameters():,} parameters; hidden, intermediate, heads: {sizes}")
done = subprocess.run([sys.executable, "-c", READ, *folders], capture_output=True, text=True)
print(done.stdout or done.stderr, end="")
