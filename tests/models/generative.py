"""Networks whose output is a signal again: an autoencoder and gated convolutions."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal


class Autoencoder(nn.Module):
    def __init__(self, latent_dim=12):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 10, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(10, 22, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(22 * 4 * 4, latent_dim),
        )
        self.fc = nn.Linear(latent_dim, 32 * 4 * 4)
        self.deconv1 = nn.ConvTranspose2d(32, 18, kernel_size=4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(18, 1, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        z = self.encoder(x)
        h = F.relu(self.fc(z))
        h = h.view(-1, 32, 4, 4)
        h = F.relu(self.deconv1(h))
        return torch.sigmoid(self.deconv2(h))


class GatedBlock(nn.Module):
    def __init__(self, residual_channels, dilation_channels, skip_channels, dilation):
        super().__init__()
        self.dilation = dilation
        self.dilated = nn.Conv1d(residual_channels, 2 * dilation_channels, kernel_size=2, dilation=dilation)
        self.residual = nn.Conv1d(dilation_channels, residual_channels, 1)
        self.skip = nn.Conv1d(dilation_channels, skip_channels, 1)

    def forward(self, x):
        a, b = self.dilated(F.pad(x, (self.dilation, 0))).chunk(2, dim=1)
        z = torch.tanh(a) * torch.sigmoid(b)
        return x + self.residual(z), self.skip(z)


class WaveNet(nn.Module):
    def __init__(self, classes=14, residual_channels=18, dilation_channels=12, skip_channels=26):
        super().__init__()
        self.start = nn.Conv1d(1, residual_channels, 1)
        self.blocks = nn.ModuleList(
            [GatedBlock(residual_channels, dilation_channels, skip_channels, 2**i) for i in range(3)]
        )
        self.end1 = nn.Conv1d(skip_channels, 20, 1)
        self.end2 = nn.Conv1d(20, classes, 1)

    def forward(self, x):
        x = self.start(x)
        skips = 0
        for block in self.blocks:
            x, skip = block(x)
            skips = skips + skip
        return self.end2(F.relu(self.end1(F.relu(skips))))


class GatedConv2d(nn.Module):
    """The image and its mask convolved, and the gate cut off by `chunk`, as in free-form inpainting."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2 * 14, 3, padding=1)
        self.conv2 = nn.Conv2d(14, 2 * 22, 3, stride=2, padding=1)
        self.out = nn.Conv2d(22, 3, 1)

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            features, gate = conv(x).chunk(2, dim=1)
            x = F.elu(features) * gate.sigmoid()
        return self.out(x)


CASES = (
    case("autoencoder", Autoencoder, normal(3, 1, 16, 16)),
    case("wavenet", WaveNet, normal(2, 1, 40)),
    case("gated_conv", GatedConv2d, normal(2, 3, 18, 16)),
)
