"""Networks for phones: MobileNetV2, ShuffleNet v1 and v2, and a squeeze-and-excite net with GroupNorm and GLU."""

import torch
import torch.nn.functional as F
from torch import nn

from .case import case, normal


class ConvBNReLU(nn.Sequential):
    def __init__(self, in_planes, out_planes, kernel_size=3, stride=1, groups=1):
        padding = (kernel_size - 1) // 2
        super().__init__(
            nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(out_planes),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    def __init__(self, inp, oup, stride, expand_ratio):
        super().__init__()
        hidden_dim = int(round(inp * expand_ratio))
        self.use_res_connect = stride == 1 and inp == oup
        layers = []
        if expand_ratio != 1:
            layers.append(ConvBNReLU(inp, hidden_dim, kernel_size=1))
        layers.extend(
            [
                ConvBNReLU(hidden_dim, hidden_dim, stride=stride, groups=hidden_dim),
                nn.Conv2d(hidden_dim, oup, 1, 1, 0, bias=False),
                nn.BatchNorm2d(oup),
            ]
        )
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        if self.use_res_connect:
            return x + self.conv(x)
        return self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        features = [ConvBNReLU(3, 10, stride=2)]
        input_channel = 10
        for t, c, n, s in ((1, 8, 1, 1), (4, 12, 2, 2), (3, 18, 1, 2)):
            for i in range(n):
                features.append(InvertedResidual(input_channel, c, s if i == 0 else 1, expand_ratio=t))
                input_channel = c
        features.append(ConvBNReLU(input_channel, 56, kernel_size=1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(56, num_classes))

    def forward(self, x):
        x = self.features(x)
        x = x.mean([2, 3])
        return self.classifier(x)


def channel_shuffle(x, groups):
    batchsize, num_channels, height, width = x.size()
    channels_per_group = num_channels // groups
    x = x.view(batchsize, groups, channels_per_group, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batchsize, -1, height, width)


class ShuffleUnitV2(nn.Module):
    def __init__(self, inp, oup, stride):
        super().__init__()
        self.stride = stride
        branch_features = oup // 2
        if stride > 1:
            self.branch1 = nn.Sequential(
                nn.Conv2d(inp, inp, kernel_size=3, stride=stride, padding=1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                nn.Conv2d(inp, branch_features, kernel_size=1, bias=False),
                nn.BatchNorm2d(branch_features),
                nn.ReLU(inplace=True),
            )
        else:
            self.branch1 = nn.Sequential()
        self.branch2 = nn.Sequential(
            nn.Conv2d(inp if stride > 1 else branch_features, branch_features, kernel_size=1, bias=False),
            nn.BatchNorm2d(branch_features),
            nn.ReLU(inplace=True),
            nn.Conv2d(branch_features, branch_features, 3, stride, padding=1, groups=branch_features, bias=False),
            nn.BatchNorm2d(branch_features),
            nn.Conv2d(branch_features, branch_features, kernel_size=1, bias=False),
            nn.BatchNorm2d(branch_features),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = ConvBNReLU(3, 10, stride=2)
        self.stage2 = nn.Sequential(ShuffleUnitV2(10, 20, 2), ShuffleUnitV2(20, 20, 1), ShuffleUnitV2(20, 20, 1))
        self.stage3 = nn.Sequential(ShuffleUnitV2(20, 36, 2), ShuffleUnitV2(36, 36, 1))
        self.conv5 = ConvBNReLU(36, 44, kernel_size=1)
        self.fc = nn.Linear(44, num_classes)

    def forward(self, x):
        x = self.conv5(self.stage3(self.stage2(self.conv1(x))))
        return self.fc(x.mean([2, 3]))


class ShuffleUnitV1(nn.Module):
    def __init__(self, in_planes, out_planes, stride, groups):
        super().__init__()
        self.stride = stride
        self.groups = groups
        mid_planes = out_planes // 2
        out = out_planes - in_planes if stride == 2 else out_planes
        self.conv1 = nn.Conv2d(in_planes, mid_planes, kernel_size=1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(mid_planes)
        self.conv2 = nn.Conv2d(mid_planes, mid_planes, 3, stride=stride, padding=1, groups=mid_planes, bias=False)
        self.bn2 = nn.BatchNorm2d(mid_planes)
        self.conv3 = nn.Conv2d(mid_planes, out, kernel_size=1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(out)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        N, C, H, W = out.size()
        g = self.groups
        out = out.view(N, g, C // g, H, W).permute(0, 2, 1, 3, 4).reshape(N, C, H, W)
        out = self.bn3(self.conv3(self.bn2(self.conv2(out))))
        if self.stride == 2:
            return F.relu(torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], 1))
        return F.relu(out + x)


class ShuffleNetV1(nn.Module):
    def __init__(self, num_classes=7, groups=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, kernel_size=3, stride=2, padding=1)
        self.unit1 = ShuffleUnitV1(12, 36, 2, groups)
        self.unit2 = ShuffleUnitV1(36, 36, 1, groups)
        self.linear = nn.Linear(36, num_classes)

    def forward(self, x):
        out = self.unit2(self.unit1(F.relu(self.conv1(x))))
        out = F.avg_pool2d(out, out.size(2))
        return self.linear(out.view(out.size(0), -1))


class SELayer(nn.Module):
    def __init__(self, channel, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channel, channel // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(channel // reduction, channel),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class SENet(nn.Module):
    def __init__(self, num_classes=7):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 24)
        self.expand = nn.Conv2d(24, 60, 1)
        self.depthwise = nn.Conv2d(30, 30, 3, padding=1, groups=30)
        self.norm2 = nn.GroupNorm(num_groups=5, num_channels=30)
        self.se = SELayer(30)
        self.project = nn.Conv2d(30, 24, 1)
        self.head = nn.Linear(24, num_classes)

    def forward(self, x):
        x = F.silu(self.norm(self.stem(x)))
        y = F.glu(self.expand(x), dim=1)
        y = F.silu(self.norm2(self.depthwise(y)))
        x = x + self.project(self.se(y))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


CASES = (
    case("mobilenet_v2", MobileNetV2, normal(2, 3, 32, 32)),
    case("shufflenet_v2", ShuffleNetV2, normal(2, 3, 32, 32)),
    case("shufflenet_v1", ShuffleNetV1, normal(2, 3, 32, 32)),
    case("se_glu_groupnorm", SENet, normal(2, 3, 24, 20)),
)
