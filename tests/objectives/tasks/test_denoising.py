"""Denoising: regularizers against plain definitions, photographs, and that learning helps on others of them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from selftune.objectives.common.denoising import psnr
from selftune.objectives.data.photographs import BUNDLED, Pairs, bundled_crops, crops_in
from selftune.objectives.tasks.field_of_experts_denoising import FieldOfExpertsDenoising
from selftune.objectives.tasks.total_variation_denoising import TotalVariationDenoising

from selftune.errors import SettingError
from selftune.hypergradients.lower_solvers import AcceleratedGradient, Newton
from selftune.hypergradients.oracle import Oracle

SMALL = {"train_crops": 2, "validation_crops": 1, "test_crops": 2, "crop": 16}


def variation(strength, smoothing):
    values = {"total_variation.strength": strength, "total_variation.smoothing": smoothing}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


# Regularizers ------------------------------------------------------------------------------------------


def test_total_variation_of_a_step_is_half_its_height_times_its_length():
    x = torch.zeros(1, 16, 16, dtype=torch.float64)
    x[:, :, 8:] = 0.5
    found = TotalVariationDenoising(**SMALL).regularizer(x, variation(2.0, 1e-9))
    assert found.item() == pytest.approx(0.5 * 2.0 * 16 * 0.5, rel=1e-6)


def test_total_variation_ignores_brightness_and_transposition():
    task, values = TotalVariationDenoising(**SMALL), variation(0.3, 0.02)
    x = task.noisy
    wanted = task.regularizer(x, values)
    torch.testing.assert_close(task.regularizer(x + 0.4, values), wanted)
    torch.testing.assert_close(task.regularizer(x.mT, values), wanted)


def test_the_adjoint_is_the_transpose_of_the_differences():
    from selftune.objectives.tasks.total_variation_denoising import _adjoint, _differences

    generator = torch.Generator().manual_seed(0)
    x, rows, columns = (torch.randn(2, h, w, generator=generator) for h, w in ((6, 7), (5, 7), (6, 6)))
    down, right = _differences(x)
    torch.testing.assert_close((down * rows).sum() + (right * columns).sum(), (x * _adjoint(rows, columns)).sum())


def test_an_expert_with_a_difference_filter_is_one_direction_of_total_variation():
    experts = FieldOfExpertsDenoising(experts=1, filter_size=2, **SMALL)
    values = {
        "field_of_experts.strength": torch.tensor(0.3),
        "field_of_experts.weights": torch.tensor([2.0]),
        "field_of_experts.smoothing": torch.tensor([0.05]),
        "field_of_experts.filters": torch.tensor([-1.0, 1.0, 0.0, 0.0]),
    }
    values = {name: value.double() for name, value in values.items()}
    differences = experts.noisy.diff(dim=2)[:, :-1]
    wanted = 0.5 * 0.3 * 2.0 * torch.sqrt(differences.square() + 0.05**2).sum()
    torch.testing.assert_close(experts.regularizer(experts.noisy, values), wanted)
    values["field_of_experts.filters"] *= -1
    torch.testing.assert_close(experts.regularizer(experts.noisy, values), wanted)


def test_first_filters_have_mean_zero():
    filters = FieldOfExpertsDenoising(experts=3, **SMALL).hyperparameters[-1].tensor.view(3, -1)
    torch.testing.assert_close(filters.sum(dim=1), torch.zeros(3), rtol=0, atol=1e-6)
    assert filters.std() > 0.05


@pytest.mark.parametrize("task", [TotalVariationDenoising, FieldOfExpertsDenoising])
def test_without_regularization_the_noisy_pictures_stay(task):
    oracle = Oracle(task(**SMALL))
    u = oracle.start_u()
    u[0] = -40.0
    solution = Newton().solve(oracle, u, torch.zeros(oracle.n, dtype=torch.float64), 1e-9)
    torch.testing.assert_close(oracle.unravel(solution.x)["pictures"], oracle.objective.noisy, rtol=0, atol=1e-8)


# Measures ----------------------------------------------------------------------------------------------


def learned(task, steps, rate):
    """Some steps of plain gradient descent on the upper level, with accurate hypergradients."""
    oracle = Oracle(task)
    x, u = oracle.start_x(), oracle.start_u()
    for _ in range(steps):
        x = AcceleratedGradient().solve(oracle, u, x, 1e-3).x
        product, b = oracle.hvp(x, u), oracle.upper_grad_x(x, u)
        q = torch.zeros_like(b)
        for _ in range(60):  # Richardson's iteration: Hessians here are well conditioned
            q = q + (b - product(q)) / oracle.constants(u).smoothness
        z = -oracle.JT(x, u, q)
        u = u - rate * z / z.norm()
    return oracle, AcceleratedGradient().solve(oracle, u, x, 1e-3).x, u


def test_learning_improves_other_photographs():
    task = TotalVariationDenoising(train_crops=4, validation_crops=2, test_crops=4, crop=32)
    oracle, x, u = learned(task, steps=8, rate=0.4)
    start = task.metrics(oracle.unravel(oracle.start_x()), oracle.values(oracle.start_u()))
    end = task.metrics(oracle.unravel(x), oracle.values(u))
    for split in ("train", "validation", "test"):
        assert end[f"{split}_psnr"] > start[f"{split}_psnr"] + 0.5
        assert end[f"{split}_psnr"] > end[f"{split}_psnr_noisy"] + 3
        assert end[f"{split}_psnr_noisy"] == pytest.approx(20, abs=0.5)


def test_experts_learn():
    task = FieldOfExpertsDenoising(experts=4, filter_size=3, **SMALL)
    oracle, x, u = learned(task, steps=40, rate=0.3)
    first = AcceleratedGradient().solve(oracle, oracle.start_u(), oracle.start_x(), 1e-3).x
    assert oracle.upper(x, u) < 0.6 * oracle.upper(first, oracle.start_u())


def test_metrics_agree_with_a_task_built_on_the_other_split():
    task = TotalVariationDenoising(**SMALL)
    oracle = Oracle(task)
    u = oracle.start_u() + 1.5
    pictures = task.pictures(oracle.unravel(oracle.start_x()), oracle.values(u))
    assert sorted(pictures) == ["noisy", "restored", "true"]
    assert all(shown.shape == (2, 16, 16) for shown in pictures.values())
    metrics = task.metrics(oracle.unravel(oracle.start_x()), oracle.values(u))
    assert metrics["test_psnr"] == psnr(pictures["restored"], pictures["true"])
    other = TotalVariationDenoising(**SMALL)
    other._show("test")
    exact = Newton().solve(Oracle(other), u, other.noisy.reshape(-1), 1e-9).x.view(2, 16, 16)
    assert (exact - pictures["restored"]).norm() < 1e-4 * exact.numel() ** 0.5
    assert task.count == 2  # untouched by what was measured


# Photographs -------------------------------------------------------------------------------------------


def test_no_photograph_is_in_two_splits():
    names = [name for split in BUNDLED.values() for name in split]
    assert len(set(names)) == len(names)


def test_every_bundled_photograph_opens_and_is_grey():
    counts = {split: len(names) for split, names in BUNDLED.items()}
    for crops in bundled_crops(counts, size=64, seed=0).values():
        assert crops.dtype == torch.float64
        assert 0 <= crops.min() < crops.max() <= 1
        assert crops.std(dim=(1, 2)).min() > 0.01


def test_noise_has_the_deviation_asked_for():
    pair = Pairs.with_noise(torch.zeros(4, 64, 64, dtype=torch.float64), 0.2, seed=1)
    assert pair.noisy.std().item() == pytest.approx(0.2, rel=0.05)
    assert not torch.equal(pair.noisy, Pairs.with_noise(pair.true, 0.2, seed=2).noisy)


def png(pixels):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write(path, images, splits):
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "split": splits}), path)
    return str(path)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3), dtype=np.uint8)


SPLITS = ["train", "test", "validation", "train", "train"]


def test_a_parquet_file_replaces_the_photographs(tmp_path, pixels):
    file = write(tmp_path / "crops.parquet", [png(image) for image in pixels], SPLITS)
    task = TotalVariationDenoising(file=file)
    assert task.true.shape == (3, 12, 10)
    grey = torch.tensor(np.asarray(Image.fromarray(pixels[3]).convert("L")) / 255)
    torch.testing.assert_close(task.true[1], grey)
    assert (
        FieldOfExpertsDenoising(experts=1, file=file).metrics(task.parameters(), values_of(file))["test_psnr"] > 0
    )


def values_of(file):
    oracle = Oracle(FieldOfExpertsDenoising(experts=1, file=file))
    return oracle.values(oracle.start_u())


def test_files_that_cannot_be_used_are_refused_with_the_reason(tmp_path, pixels):
    images = [png(image) for image in pixels]

    def refused(file, reason):
        with pytest.raises(SettingError, match=reason) as error:
            crops_in(file)
        assert error.value.key == "file"

    refused(str(tmp_path / "none.parquet"), "there is no file")
    text = tmp_path / "text.parquet"
    text.write_text("no table")
    refused(str(text), "is not a Parquet file")
    columns = tmp_path / "columns.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": images}), columns)
    refused(str(columns), "has no column 'split'")
    refused(
        write(tmp_path / "a", images, ["train", "tset", *SPLITS[2:]]), "row 1: unknown split 'tset'; did you mean"
    )
    refused(write(tmp_path / "b", images, ["train"] * 5), "has no crop with split 'validation'")
    refused(write(tmp_path / "c", [b"not a picture", *images[1:]], SPLITS), "row 0: the image is not a picture")
    refused(write(tmp_path / "d", [png(pixels[0, :8]), *images[1:]], SPLITS), "sizes .8, 10. and .12, 10.")


def test_correlation_is_conv2d_s_convention():
    task = FieldOfExpertsDenoising(experts=1, filter_size=3, **SMALL)
    oracle = Oracle(task)
    values = oracle.values(oracle.start_u())
    filters = values["field_of_experts.filters"].view(1, 1, 3, 3)
    responses = F.conv2d(task.noisy[:, None], filters)
    smooth = torch.sqrt(responses.square() + values["field_of_experts.smoothing"] ** 2).sum()
    wanted = 0.5 * values["field_of_experts.strength"] * values["field_of_experts.weights"][0] * smooth
    torch.testing.assert_close(task.regularizer(task.noisy, values), wanted)
