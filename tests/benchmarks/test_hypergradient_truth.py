"""The benchmark of hypergradients against metagradients, on so little that it takes seconds."""

import sys

import hypergradient_truth
import pytest
import torch
import truth_tables
from hypergradient_truth import QUICK, WAYS, Sizes


def cell(method, network="mlp", seed=0):
    return {"method": method, "network": network, "seed": seed}


def truth(metagradients, names=("a", "b"), seed=0):
    result = {"names": list(names), "metagradients": metagradients}
    return {"cell": cell("metagradient", seed=seed), "result": result}


def found(estimates, names=("a", "b"), seed=0):
    return {"cell": cell("ours", seed=seed), "result": {"names": list(names), "estimates": estimates}}


def test_the_command_prints_a_row_for_every_method_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    given = ["hypergradient_truth.py", "--records", str(tmp_path), "--quick", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", [*given, "--only", "network=mlp"])
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            hypergradient_truth.main()
        assert ended.value.code == 0
        said = capsys.readouterr()
    assert f"{len(WAYS) + 1} of {len(WAYS) + 1} cells are there" in said.err
    for method in WAYS:
        assert any(line.startswith(f"| {method} ") and "| mlp " in line for line in said.out.splitlines())


@pytest.mark.parametrize("network", ["cnn", "lstm"])
def test_other_networks_are_measured_too(network):
    exact = hypergradient_truth.measured(cell("metagradient", network), QUICK)
    ours = hypergradient_truth.measured(cell("self_tuning", network), QUICK)
    assert ours["names"] == exact["names"]
    assert torch.tensor(exact["metagradients"]["4"]).shape == (QUICK.runs, len(exact["names"]))
    assert torch.tensor(ours["estimates"]).isfinite().all()


def test_all_methods_start_from_the_same_weights():
    def weights(tunes_dropout, size):
        trainers = hypergradient_truth.trainers_of(cell("ours"), tunes_dropout, QUICK, size)
        return [dict(trainer.lower.network.named_parameters()) for trainer in trainers.values()]

    first, *others = [*weights(True, 1), *weights(False, 2)]
    assert {tensor.dtype for tensor in first.values()} == {torch.float64}
    for other in others:
        assert all(torch.allclose(first[name], tensor, rtol=1e-6) for name, tensor in other.items())


def test_a_frozen_trainer_stays_where_it_is():
    trainer = hypergradient_truth.trainers_of(cell("ours"), True, QUICK)[0]
    before = {name: tensor.clone() for name, tensor in trainer.lower.network.state_dict().items()}
    hypergradient_truth.freeze(trainer)
    trainer.lower.train(0, {})
    assert all(torch.equal(before[name], now) for name, now in trainer.lower.network.state_dict().items())


@pytest.mark.numerical
def test_hypergradients_of_conjugate_gradients_point_where_the_metagradient_does():
    sizes = Sizes(settling=300, horizons=(60,), runs=1, estimates=16, fit=0)
    exact = {"result": hypergradient_truth.measured(cell("metagradient"), sizes)}
    ours = {"result": hypergradient_truth.measured(cell("implicit, conjugate_gradient"), sizes)}
    assert truth_tables.against(exact, ours)["60"] > 0.7


def test_the_mean_estimate_is_compared_and_a_single_one_beside_it():
    exact = truth({"10": [[1.0, 0.0]], "20": [[0.0, 3.0], [0.0, 1.0]]})
    compared = truth_tables.against(exact, found([[1.0, 1.0], [-1.0, 1.0]]))
    assert compared == pytest.approx({"10": 0, "20": 1, "signs": 1, "one": 0.5**0.5})


def test_signs_are_counted():
    exact = truth({"10": [[1.0, 2.0, 3.0, 4.0]]}, names=tuple("abcd"))
    assert truth_tables.against(exact, found([[1.0, -2.0, -3.0, -4.0]], tuple("abcd")))["signs"] == 0.25


def test_a_method_is_compared_in_what_it_tunes():
    exact = truth({"10": [[5.0, 1.0, 0.0]]}, names=("rate", "a", "b"))
    assert truth_tables.against(exact, found([[2.0, 0.0]]))["10"] == pytest.approx(1)


def test_the_table_has_an_interval_over_seeds():
    exact = [truth({"10": [[1.0, 0.0]], "20": [[1.0, 0.0]] * 2}, seed=seed) for seed in range(3)]
    ours = [found([[1.0, float(seed)]], seed=seed) for seed in range(3)]
    said = truth_tables.report([*exact, *ours], "metagradient").splitlines()
    (row,) = [line for line in said if line.startswith("| ours ")]
    low, high = truth_tables.interval([1, 0.5**0.5, 0.2**0.5])
    assert f"| 0.718 ({low:.3f} to {high:.3f})" in row


def test_there_is_no_table_without_metagradients():
    assert truth_tables.report([found([[1.0, 1.0]])], "metagradient") == "no metagradient is there yet"
