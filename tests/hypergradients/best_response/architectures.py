"""Networks a user could bring, each with its input shape, for the tests of linearisation and conversion."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
        self.first, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second, self.head = nn.Conv2d(4, 8, 3, stride=2, groups=2, dilation=2, padding=2), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x), inplace=True)
        out = self.norm(self.first(x))
        out += x
        x = F.leaky_relu(self.second(F.relu_(out)), 0.1)
        x = torch.cat([x, -x], 2).sum(dim=(2, 3)) / x.shape[-1]
        return self.head(x).log_softmax(-1)


class Attention(nn.Module):
    """Single-headed self-attention written out, with layer norm and gelu."""

    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Linear(3, 8), nn.Parameter(torch.randn(6, 8))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8, bias=False)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x) + self.position
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        attention = (q @ k.transpose(-2, -1) / math.sqrt(8)).softmax(-1)
        x = x + self.out(F.dropout(attention, 0.1, self.training) @ v)
        x = x + self.mlp(self.norms[1](x))
        return self.head(x.mean(1))


class Encoder(nn.Module):
    """torch's own transformer layer: its attention has no rule and no gates."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.layer(self.embed(x))[:, 0])


class Grid(nn.Module):
    """grid_sample has no forward derivative."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 9, 2)
        self.register_buffer("grid", torch.rand(1, 3, 3, 2) * 1.6 - 0.8)

    def forward(self, x):
        grid = self.grid.to(x.dtype).expand(len(x), -1, -1, -1)
        return self.head(F.grid_sample(self.conv(x), grid, align_corners=False).flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.head = nn.Linear(3, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x))[0][:, -1])


class Shared(nn.Module):
    """One layer called three times."""

    def __init__(self):
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.embed(x)
        for _ in range(3):
            x = x + torch.tanh(self.block(x))
        return self.head(x)


class Assorted(nn.Module):
    """Operators, indexing, branches on values, in-place writes and operations without a rule."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.randn(6))

    def forward(self, x):
        assert isinstance(x, torch.Tensor)
        a, b = self.a(x), self.b(x)
        assert isinstance(a, torch.Tensor)
        assert a.shape == (len(x), 6)
        y = 2 * a * b - 1.5 / (3 + b.pow(2)) + (1 - a) / 2 + self.scale * a
        y[:, 0] = b[:, 1] * 2
        y = torch.where(y > 0, y, 0.3 * b) + a.masked_fill(a < 0, 1.0)
        z = y.view(-1, 2, 3)
        z[:, 0].mul_(3)
        z = torch.stack([z[:, 0], z[:, 1].cumsum(-1)], 1).permute(0, 2, 1).reshape(len(x), -1)
        z = (
            F.silu(z)
            + F.elu(z)
            + F.softplus(z)
            + torch.sigmoid(z)
            + F.mish(z)
            + torch.logsumexp(y, 1, keepdim=True)
        )
        z = torch.einsum("bi,bj->bi", z, F.normalize(y)) + y.exp().clamp(max=2.0).mean(1, keepdim=True)
        first, second = z.split(3, dim=1)
        return self.head(torch.cat([first, second.unsqueeze(0).squeeze(0)], dim=-1))


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Dropout2d(0.2), nn.Conv2d(6, 4, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(4, 3),
    )  # fmt: skip


def signal():
    return nn.Sequential(
        nn.Conv1d(3, 6, 3, groups=3, padding=1, padding_mode="circular"), nn.GroupNorm(2, 6), nn.Sigmoid(),
        nn.MaxPool1d(2, padding=1), nn.Conv1d(6, 4, 2, bias=False),
        nn.InstanceNorm1d(4, track_running_stats=True), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(8, 1),
    )  # fmt: skip


def mlp():
    return nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)
    )


ARCHITECTURES = {
    "mlp": (mlp, (5,)),
    "cnn": (cnn, (3, 8, 8)),
    "signal": (signal, (3, 9)),
    "residual": (Residual, (3, 7, 7)),
    "attention": (Attention, (6, 3)),
    "encoder": (Encoder, (6, 3)),
    "grid": (Grid, (3, 5, 5)),
    "recurrent": (Recurrent, (4, 3)),
    "shared": (Shared, (3,)),
    "assorted": (Assorted, (3,)),
}
"""Name -> (constructor, shape of one example)."""
