"""Inputs that are not one image: an image with a table beside it, and a cloud of points."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal


class TwoInTwoOut(nn.Module):
    def __init__(self, num_classes=7):
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 20, 3, stride=2)
        )
        self.tabular = nn.Sequential(nn.Linear(13, 30), nn.ReLU(), nn.Linear(30, 16))
        self.fuse = nn.Linear(20 + 16, 40)
        self.classify = nn.Linear(40, num_classes)
        self.regress = nn.Linear(40, 1)

    def forward(self, image, table):
        a = torch.amax(self.image(image), dim=(-2, -1))
        b = self.tabular(table)
        h = F.relu(self.fuse(torch.cat((a, b), dim=-1)))
        return self.classify(h), self.regress(h).squeeze(-1)


class TNet(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k
        self.conv1 = nn.Conv1d(k, 16, 1)
        self.conv2 = nn.Conv1d(16, 28, 1)
        self.fc1 = nn.Linear(28, 22)
        self.fc2 = nn.Linear(22, k * k)
        self.bn1 = nn.BatchNorm1d(16)
        self.bn2 = nn.BatchNorm1d(28)
        self.bn3 = nn.BatchNorm1d(22)

    def forward(self, x):
        batchsize = x.size()[0]
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 28)
        x = F.relu(self.bn3(self.fc1(x)))
        x = self.fc2(x)
        iden = torch.eye(self.k, dtype=x.dtype, device=x.device).view(1, self.k * self.k).repeat(batchsize, 1)
        x = x + iden
        return x.view(-1, self.k, self.k)


class PointNet(nn.Module):
    def __init__(self, num_classes=7):
        super().__init__()
        self.stn = TNet(k=3)
        self.conv1 = nn.Conv1d(3, 14, 1)
        self.fstn = TNet(k=14)
        self.conv2 = nn.Conv1d(14, 34, 1)
        self.conv3 = nn.Conv1d(34, 48, 1)
        self.bn1 = nn.BatchNorm1d(14)
        self.bn2 = nn.BatchNorm1d(34)
        self.bn3 = nn.BatchNorm1d(48)
        self.fc1 = nn.Linear(48, 26)
        self.fc2 = nn.Linear(26, num_classes)

    def forward(self, x):
        trans = self.stn(x)
        x = x.transpose(2, 1)
        x = torch.bmm(x, trans)
        x = x.transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        trans_feat = self.fstn(x)
        x = torch.bmm(x.transpose(2, 1), trans_feat).transpose(2, 1)
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 48)
        x = F.relu(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


CASES = (
    case("two_in_two_out", TwoInTwoOut, normal(4, 3, 16, 16), normal(4, 13)),
    case("pointnet", PointNet, normal(4, 3, 50), damped=("stn.fc2", "fstn.fc2", "conv3", "fc2")),
)
