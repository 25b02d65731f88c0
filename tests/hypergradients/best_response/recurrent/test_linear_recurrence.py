"""Linear recurrences: their values against a loop, their adjoints against finite differences."""

from __future__ import annotations

import pytest
import torch

from selftune.hypergradients.best_response.recurrent.linear_recurrence import gated_recurrence, lstm_recurrence

T, B, H = 4, 3, 2


def _draw(*shape, requires_grad=False):
    return torch.randn(*shape, dtype=torch.float64).requires_grad_(requires_grad)


def _lstm(seed):
    torch.manual_seed(seed)
    varied = [_draw(*shape, requires_grad=True) for shape in ((T, B, 4 * H), (B, H), (B, H))]
    return varied, [_draw(4 * H, H), _draw(T, B, 4 * H), _draw(T, B, H), _draw(T, B, H)]


def _gated(seed, gates):
    torch.manual_seed(seed)
    varied = [_draw(T, B, H, requires_grad=True), _draw(B, H, requires_grad=True)]
    return varied, [_draw(gates * H, H), _draw(T, B, gates * H), _draw(T, B, H) if gates > 1 else None]


def test_lstm_recurrence_is_its_loop():
    (drive, h, c), (weight, slopes, keep, out) = _lstm(0)
    hidden, cells = lstm_recurrence(drive, h, c, weight, slopes, keep, out)
    for t in range(T):
        i, f, g, o = (slopes[t] * (drive[t] + h @ weight.T)).chunk(4, 1)
        c = keep[t] * c + i + f + g
        h = out[t] * c + o
        torch.testing.assert_close(hidden[t], h)
        torch.testing.assert_close(cells[t], c)


def test_lstm_recurrence_has_its_adjoint():
    varied, constants = _lstm(1)
    assert torch.autograd.gradcheck(lambda *varied: lstm_recurrence(*varied, *constants), varied)
    assert torch.autograd.gradcheck(lambda *varied: lstm_recurrence(*varied, *constants)[0], varied)
    assert torch.autograd.gradcheck(lambda *varied: lstm_recurrence(*varied, *constants)[1][-1], varied)


@pytest.mark.parametrize("gates", [1, 3])
def test_gated_recurrence_is_its_loop(gates):
    (drive, h), (weight, slopes, keep) = _gated(2, gates)
    hidden = gated_recurrence(drive, h, weight, slopes, keep)
    for t in range(T):
        moved = (slopes[t] * (h @ weight.T)).view(B, gates, H).sum(1)
        h = drive[t] + moved + (0 if keep is None else keep[t] * h)
        torch.testing.assert_close(hidden[t], h)


@pytest.mark.parametrize("gates", [1, 3])
def test_gated_recurrence_has_its_adjoint(gates):
    varied, constants = _gated(3, gates)
    assert torch.autograd.gradcheck(lambda *varied: gated_recurrence(*varied, *constants), varied)
