"""A problem from two functions and data: constants given or estimated, groups, and what is refused."""

import re
from pathlib import Path

import pytest
import torch

from selftune import Interval, L1Norm, SettingError, SmoothProblem, Tune, Unit, tune
from selftune.hypergradients.lower_solvers import AcceleratedGradient, Newton
from selftune.hypergradients.oracle import Oracle
from selftune.lower_level.smooth_objective import ConstantDisproved, LowerLevelError, NotStronglyConvex

PAGE = Path(__file__).parents[2] / "docs" / "smooth-problems.md"


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


INPUTS = normal(0, 24, 4)
TARGETS = INPUTS @ normal(1, 4) + normal(2, 24)
TRAIN, VALIDATION, TEST = zip(INPUTS.split(8), TARGETS.split(8), strict=True)
GROUP = torch.tensor([0, 1, 1, 0])
WEIGHT = {"weight": torch.zeros(4, dtype=torch.float64)}
L = float(torch.linalg.eigvalsh(TRAIN[0].T @ TRAIN[0] / 8)[-1])
L_G = float(torch.linalg.eigvalsh(VALIDATION[0].T @ VALIDATION[0] / 8)[-1])


def lower(parameters, values, data):
    penalty = (values["strength"].reshape(-1)[GROUP] * parameters["weight"].square()).sum()
    return upper(parameters, values, data) + 0.5 * penalty


def upper(parameters, values, data):
    return 0.5 * (data[0] @ parameters["weight"] - data[1]).square().mean()


def problem(lower=lower, upper=upper, parameters=WEIGHT, strength=None, **more):
    tuned = Tune(torch.full((2,), 0.1)) if strength is None else strength
    data = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    return SmoothProblem(lower, upper, parameters, {"strength": tuned}, **(data | more))


GIVEN = {
    "strong_convexity": lambda values: float(values["strength"].min()),
    "smoothness": lambda values: L + float(values["strength"].max()),
    "upper_smoothness": L_G,
    "upper_convex": True,
}


def exact(u):
    """The true upper level, in closed form."""
    moment, right = TRAIN[0].T @ TRAIN[0] / 8, TRAIN[0].T @ TRAIN[1] / 8
    weight = torch.linalg.solve(moment + torch.diag(u.exp()[GROUP]), right)
    return 0.5 * (VALIDATION[0] @ weight - VALIDATION[1]).square().mean()


@pytest.mark.parametrize("method", ["inexact_line_search", "implicit"])
@pytest.mark.parametrize("given", [{}, GIVEN], ids=["estimated", "given"])
def test_one_call_finds_the_optimum(method, given):
    searches = method == "inexact_line_search"
    result = tune(problem(**given), method=method, tolerance=1e-4, work=3000 if searches else 400)
    u = result.values["strength"].log().requires_grad_()
    level = exact(u)
    gradient = torch.autograd.grad(level, u)[0]
    assert gradient.norm() < (1e-3 if searches else 0.05)  # HOAG's steps grow until they overshoot
    assert level.item() < 0.5 * exact(torch.full((2,), 0.1, dtype=torch.float64).log()).item()
    assert result.metrics["validation_loss"] == pytest.approx(level.item(), abs=2e-2)
    assert set(result.metrics) == {"training_loss", "validation_loss", "test_loss"}
    assert list(result.hyperparameters) == ["strength[0]", "strength[1]"]
    assert result.parameters["weight"].shape == (4,)
    assert result.trajectory[-1].certificate["certified"] == 0
    assert not result.certified
    assert result.stopped == ("estimated" if searches else "budget")


def test_estimates_bracket_what_is_estimated_and_their_products_count():
    oracle = Oracle(problem())
    u = oracle.start_u()
    constants = oracle.constants(u)
    hessian = TRAIN[0].T @ TRAIN[0] / 8 + 0.1 * torch.eye(4, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert 0.4 * eigenvalues[0] < constants.strong_convexity < eigenvalues[0]
    assert eigenvalues[-1] < constants.smoothness < 1.2 * eigenvalues[-1]
    assert L_G < constants.upper_smoothness < 1.2 * L_G
    assert (constants.estimated, constants.certified) == (True, False)
    assert oracle.counts.hvp == constants.products == 4
    oracle.constants(u)
    assert oracle.counts.hvp == 4


@pytest.mark.parametrize("solver", [Newton(), AcceleratedGradient()])
def test_an_estimate_at_the_start_gives_way_to_what_a_solve_meets(solver):
    def quartic(parameters, values, data):  # nearly flat where the solver starts, steep where it ends
        weight = parameters["weight"] - 3
        return weight.square().square().sum() + 1e-3 * values["strength"].sum() * weight.square().sum()

    start = {"weight": torch.full((4,), 3.5, dtype=torch.float64)}
    oracle = Oracle(problem(quartic, parameters=start, strength=Tune(1.0)))
    u = oracle.start_u()
    before = oracle.constants(u)
    solution = solver.solve(oracle, u, oracle.start_x() + 2, 1e-2)
    after = oracle.constants(u)
    assert after.strong_convexity < before.strong_convexity
    assert solution.error == pytest.approx(float(solution.gradient.norm()) / after.strong_convexity)


@pytest.mark.parametrize(
    ("given", "name"),
    [({"strong_convexity": 5.0}, "strong_convexity"), ({"smoothness": 0.1}, "smoothness")],
)
def test_a_wrong_constant_stops_the_call_with_the_numbers(given, name):
    with pytest.raises(ConstantDisproved, match=rf"{name} is given as [\d.]+, but a curvature of [\d.]+ was met"):
        tune(problem(**(GIVEN | given)), method="inexact_line_search", work=500)


def test_a_concave_lower_level_is_refused():
    with pytest.raises((SettingError, LowerLevelError), match="not strongly convex"):
        tune(problem(lambda p, v, d: -lower(p, v, d)), method="inexact_line_search")
    with pytest.raises(NotStronglyConvex):
        Oracle(problem(lambda p, v, d: -lower(p, v, d))).constants(torch.zeros(2, dtype=torch.float64))


def test_values_have_the_shape_of_their_start():
    seen = {}

    def looks(parameters, values, data):
        seen.update({name: tuple(value.shape) for name, value in values.items()})
        return upper(parameters, values, data) + values["grid"].sum() * parameters["weight"].square().sum()

    hyperparameters = {
        "grid": Tune(torch.full((2, 3), 0.1)),
        "named": Tune({"a": 0.5, "b": 0.25}, Unit()),
        "free": Tune(-1.0, Interval()),
        "fixed": torch.ones(2, 2),
        "number": 3,
    }
    made = SmoothProblem(looks, looks, WEIGHT, hyperparameters, train=TRAIN, validation=VALIDATION)
    assert made.hyperparameters[0].names[:2] == ("grid[0,0]", "grid[0,1]")
    assert made.hyperparameters[1].names == ("named[a]", "named[b]")
    Oracle(made).grad_x(WEIGHT["weight"], Oracle(made).start_u())
    assert seen == {"grid": (2, 3), "named": (2,), "free": (), "fixed": (2, 2), "number": ()}


def test_thousands_of_hyperparameters():
    made = problem(
        lambda p, v, d: (
            upper(p, v, d) + 0.05 * (p["weight"] ** 2).sum() + 1e-4 * v["strength"].sum() * p["weight"][0]
        ),
        strength=Tune(torch.full((50, 60), 0.5), Unit()),
    )
    result = tune(made, method="inexact_line_search", steps=2)
    assert result.values["strength"].shape == (50, 60)
    assert len(result.trajectory) == 2


def test_terms_that_are_not_smooth_come_by_name():
    def sparse(**more):
        strengths = {"strength": 0.5, "lasso": Tune(torch.full((2, 2), 0.02))}
        return SmoothProblem(
            lambda p, v, data: upper(p, v, data) + 0.5 * v["strength"] * p["weight"].square().sum(),
            upper,
            WEIGHT,
            strengths,
            train=TRAIN,
            validation=VALIDATION,
            **more,
        )

    def terms(values, slopes):
        slope = slopes["lasso"].reshape(4) if "lasso" in slopes else None
        return {"weight": L1Norm(values["lasso"].reshape(4), slope)}

    def proximal(parameters, values, step):
        return {"weight": L1Norm(values["lasso"].reshape(4)).prox(parameters["weight"], step)}

    given = {"method": "inexact_line_search", "solver": "proximal_gradient", "steps": 3}
    named, mapped = tune(sparse(terms=terms), **given), tune(sparse(proximal=proximal), **given)
    assert named.values["lasso"].shape == (2, 2)
    torch.testing.assert_close(named.values["lasso"], mapped.values["lasso"], rtol=1e-6, atol=0)
    assert not named.certified  # constants are estimates
    oracle = Oracle(sparse(terms=terms))
    assert oracle.active_set(oracle.start_x(), oracle.start_u(), 1.0, 0.0).free == 0
    with pytest.raises(SettingError, match="give either"):
        sparse(terms=terms, proximal=proximal)


def test_a_term_that_is_not_smooth_comes_as_its_proximal_map():
    def soft(parameters, values, step):
        weight = parameters["weight"]
        return {"weight": weight.sign() * (weight.abs() - step * values["lasso"]).clamp(min=0)}

    made = SmoothProblem(
        lambda p, v, d: upper(p, v, d) + 0.01 * p["weight"].square().sum(), upper, WEIGHT, {"lasso": Tune(1e-2)},
        train=TRAIN, validation=VALIDATION, proximal=soft,
    )  # fmt: skip
    with pytest.raises(SettingError, match="must be proximal_gradient"):
        tune(made, method="inexact_line_search")
    result = tune(made, method="inexact_line_search", solver="proximal_gradient", steps=2)
    assert len(result.trajectory) == 2


@pytest.mark.parametrize(
    ("make", "key", "words"),
    [
        (lambda: problem(strength=Tune(-1.0)), "strength", "give a Tune a domain"),
        (lambda: problem(strength=Tune(2.0, Unit())), "strength", "inside the bounds"),
        (lambda: problem(strength=Tune("much")), "strength", "must be a number, a tensor"),
        (lambda: problem(strength=0.1), "hyperparameters", "nothing is tuned"),
        (lambda: problem(parameters={}), "parameters", "at least one"),
        (
            lambda: problem(parameters={"weight": torch.zeros(4, dtype=torch.int64)}),
            "parameters",
            "floating-point",
        ),
        (lambda: problem(lambda p, v, d: 1.0), "lower", "must return a tensor of shape ()"),
        (lambda: problem(upper=lambda p, v, d: p["weight"]), "upper", r"one of shape \(4,\)"),
        (lambda: problem(upper=lambda p, v, d: upper(p, v, d) / 0), "upper", "must be finite"),
    ],
)
def test_what_is_no_problem_is_refused(make, key, words):
    with pytest.raises(SettingError, match=words) as caught:
        make()
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"method": "self_tuning"}, "method"),
        ({"method": "penalty"}, "method"),
        ({"regularizers": {"weight_decay": {}}}, "regularizers"),
        ({"seconds": 1.0}, "seconds"),
        ({"seed": 3}, "seed"),
        ({"device": "cuda"}, "device"),
        ({"solver": "newtn"}, "solver"),
        ({"stp": 1.0}, "stp"),
        ({"trainers": 0}, "trainers"),
        ({"work": 0}, "work"),
        ({"work": 5, "steps": 5}, ""),
    ],
)
def test_arguments_that_mean_nothing_here_are_refused(arguments, key):
    with pytest.raises(SettingError) as caught:
        tune(problem(), **({"method": "inexact_line_search"} | arguments))
    assert caught.value.key == key


def test_a_hyperparameter_without_a_graph_is_refused():
    def cut(parameters, values, data):
        return lower(parameters, {"strength": values["strength"].detach()}, data)

    with pytest.raises(SettingError, match="without float"):
        tune(problem(cut), method="inexact_line_search")


def test_a_team_and_a_folder_take_the_same_steps(tmp_path):
    alone = tune(problem(**GIVEN), method="inexact_line_search", steps=4)
    team = tune(problem(**GIVEN), method="inexact_line_search", steps=4, trainers=3, output=tmp_path / "out")
    assert [s.hyperparameters.tolist() for s in team.trajectory] == [
        s.hyperparameters.tolist() for s in alone.trajectory
    ]
    assert (tmp_path / "out" / "checkpoints").exists()


def test_the_page_cleans_its_data(capsys):
    code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    exec(code[0], names)
    weights, wrong, test = names["weights"], names["wrong"], names["test"]
    assert weights[wrong].mean() < 0.2
    assert weights[~wrong].mean() > 0.8
    fitted = names["result"].parameters["weight"]
    assert ((test[0] @ fitted).argmax(dim=1) == test[1]).double().mean() > 0.8
    exec(code[1], names)
