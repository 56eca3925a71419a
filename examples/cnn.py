# %% [markdown]
# # One training, a small ResNet of any width
#
# A ResNet with BatchNorm on Fashion-MNIST, or on scikit-learn's digits where it is not there: trained once, its
# widths scored, one that is small enough cut out, saved, loaded in a new process, and exported to ONNX.
#
#     python examples/cnn.py                    # digits; --quick for a first look
#     python examples/cnn.py --data FOLDER      # the `root` of torchvision.datasets.FashionMNIST

# %%
import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import surgery

parser = argparse.ArgumentParser(description="One training, a small ResNet of any width.")
parser.add_argument("--data", help="a folder with Fashion-MNIST, as torchvision keeps it")
parser.add_argument("--out", default="cnn-out", help="the folder that is written")
parser.add_argument("--quick", action="store_true", help="one epoch")
parser.add_argument("--load", action="store_true", help="only load what an earlier run has written")
options = parser.parse_args([] if "get_ipython" in globals() else None)
out = Path(options.out)
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
torch.set_num_threads(1)  # the images are small: several threads would wait for each other

# %% [markdown]
# ## The model
#
# It is written as ever. Nothing in it knows of widths.


# %%
class Block(nn.Module):
    """relu(x + f(x)), with BatchNorm."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class ResNet(nn.Module):
    """Two stages of one block each; images (B, 1, H, W) to logits (B, 10)."""

    def __init__(self, channels: int = 32):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.stage1, self.down = Block(channels), nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm, self.stage2 = nn.BatchNorm2d(2 * channels), Block(2 * channels)
        self.head = nn.Linear(2 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(F.max_pool2d(self.stem(x), 2))
        x = self.stage2(F.relu(self.norm(self.down(x))))
        return self.head(x.mean((2, 3)))


# %% [markdown]
# ## The data


# %%
def pictures(folder: str | None) -> tuple[Tensor, Tensor]:
    """8,000 images (N, 1, 28, 28) of Fashion-MNIST, or 1,797 (N, 1, 8, 8) of digits; and labels (N)."""
    if folder is not None and Path(folder, "FashionMNIST", "raw", "train-images-idx3-ubyte").exists():
        from torchvision.datasets import FashionMNIST

        data = FashionMNIST(folder, train=True)
        return (data.data[:8_000].float().unsqueeze(1) / 255 - 0.286) / 0.353, data.targets[:8_000]
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images).float().unsqueeze(1) / 8 - 1, torch.tensor(data.target)


# %% [markdown]
# ## A new process
#
# It builds the model at full size, whose weights do not matter, and gets the small one out of two files. Here it is
# this script with `--load`, and it stops here.

# %%
if options.load:
    probe = torch.load(out / "probe.pt")
    small = surgery.load(out / "small", ResNet(), probe)
    print("loaded:", small.head, [round(value, 4) for value in small(probe)[0].tolist()])
    raise SystemExit

# %% [markdown]
# ## One training
#
# `wrap` gives a twin over the same parameters. `train_step` does forward and backward at the full width and at a few
# narrow ones, which learn from the labels and from the full one. BatchNorm's statistics are right for one width only,
# so they are estimated anew, on batches of `calibration`, wherever a width is scored or cut.

# %%
images, labels = pictures(options.data)
print(f"{len(images):,} images of {images.shape[-1]} x {images.shape[-1]} on {device}")
held = len(images) // 4  # images to choose on, not to train on
x_train, y_train, x_held, y_held = images[held:], labels[held:], images[:held], labels[:held]
loader = DataLoader(TensorDataset(x_train, y_train), batch_size=100, shuffle=True, drop_last=True)
model = ResNet().to(device)
wrapped = surgery.wrap(model, x_train[:2].to(device), calibration=loader)
print(surgery.inspect(wrapped))

epochs = 1 if options.quick else 8 if len(images) < 5_000 else 5
optimizer = torch.optim.AdamW(wrapped.parameters(), weight_decay=0.05)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=epochs * len(loader))
for epoch in range(epochs):
    wrapped.train()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = surgery.train_step(wrapped, images, lambda output, labels=labels: F.cross_entropy(output, labels))
        optimizer.step()
        schedule.step()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f} at full width")


# %% [markdown]
# ## All widths, and one of them
#
# `validate` gives a hit or a miss for each image, so that the curve has error bars.


# %%
def validate(model: nn.Module) -> Tensor:
    parts = zip(x_held.split(500), y_held.split(500), strict=True)
    return torch.cat([model(images.to(device)).argmax(1).cpu() == labels for images, labels in parts])


curve = surgery.sweep(wrapped, validate, progress=False)
print(curve)
point = curve.choose(
    max_macs="30%"
)  # the best one within 30 % of the multiply-adds; or max_loss=0.01, and the cheapest
small = surgery.shrink(wrapped, point)  # a plain ResNet, in eval mode, proven to compute what the twin computes
print(
    f"chosen: {point.fraction:g} of the widths, {point.score:.3f} ± {point.error:.3f}; {surgery.cost(wrapped, point)}"
)

# %% [markdown]
# ## Save it, and load it in a new process

# %%
probe = x_held[:1]
surgery.save(small, out / "small")
torch.save(probe, out / "probe.pt")
print("saved: ", small.head, [round(value, 4) for value in small.cpu()(probe)[0].tolist()])
script = globals().get("__file__", "cnn.py")  # a notebook lies beside it
done = subprocess.run([sys.executable, script, "--load", "--out", out], capture_output=True, text=True)
print(done.stdout or done.stderr, end="")

# %% [markdown]
# ## Export it
#
# What came out is plain PyTorch. The number of images in a batch stays open.

# %%
if all(map(importlib.util.find_spec, ("onnx", "onnxscript"))):
    from onnx.reference import ReferenceEvaluator

    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(small, (x_held[:2],), out / "small.onnx", dynamo=True, dynamic_shapes=batch, verbose=False)
    session = ReferenceEvaluator(str(out / "small.onnx"))
    (output,) = session.run(None, {session.input_names[0]: x_held[:5].numpy()})
    print("ONNX differs by", (torch.tensor(output) - small(x_held[:5])).abs().max().item())
else:
    print("no ONNX: pip install onnx onnxscript")
