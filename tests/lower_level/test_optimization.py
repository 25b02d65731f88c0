import pytest
import torch
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.optimization import Optimization


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))


def trained(network, optimizer, steps=5):
    torch.manual_seed(1)
    for _ in range(steps):
        inputs, labels = torch.randn(16, 4), torch.randint(3, (16,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def by(optimization):
    built = network()
    return trained(built, optimization.build(list(built.parameters()), built))


BARE = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.05),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.05),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.05),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.05),
}


@pytest.mark.parametrize("name", BARE)
def test_an_optimizer_by_name_trains_as_torchs_own(name):
    bare = network()
    wanted = trained(bare, BARE[name](bare.parameters()))
    assert torch.allclose(by(Optimization(optimizer=name, learning_rate=0.05)), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "bare"),
    [
        ({"momentum": 0.5}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.5)),
        ({"settings": {"nesterov": True}}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True)),
        ({"weight_decay": 0.1}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1)),
        (
            {"optimizer": "adamw", "settings": {"betas": [0.8, 0.95], "eps": 1e-6}, "weight_decay": 0.2},
            lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.2),
        ),
        ({"optimizer": "nadam", "momentum": 0.8}, lambda p: torch.optim.NAdam(p, lr=0.01, betas=(0.8, 0.999))),
        ({"optimizer": "rmsprop", "momentum": 0.8}, lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.8)),
        ({"optimizer": lambda p: torch.optim.Adamax(p, lr=0.02)}, lambda p: torch.optim.Adamax(p, lr=0.02)),
    ],
)
def test_settings_are_those_of_torch(given, bare):
    plain = network()
    wanted = trained(plain, bare(plain.parameters()))
    assert torch.allclose(by(Optimization(**given)), wanted, rtol=0, atol=1e-6)


def test_groups_are_those_of_a_loop_that_sorts_parameters_itself():
    plain = network()
    groups = [
        {"params": [plain[0].weight]},
        {"params": [plain[0].bias, plain[1].weight, plain[1].bias], "weight_decay": 0.0},
        {"params": [plain[3].weight], "lr": 0.003},
        {"params": [plain[3].bias], "lr": 0.003, "weight_decay": 0.0},
    ]
    wanted = trained(plain, torch.optim.AdamW(groups, lr=0.01, weight_decay=0.5))
    grouped = Optimization(
        optimizer="adamw",
        weight_decay=0.5,
        decay_norms_and_biases=False,
        groups={"3.*": {"learning_rate": 0.003}},
    )
    assert torch.allclose(by(grouped), wanted, rtol=0, atol=1e-6)
    all_alike = by(Optimization(optimizer="adamw", weight_decay=0.5))
    assert not torch.allclose(all_alike, wanted, rtol=0, atol=1e-3)


def test_momentum_that_adds_up_is_that_of_sgd():
    assert Optimization().momentum_of_sgd == 0.9
    assert Optimization(momentum=0.5).momentum_of_sgd == 0.5
    assert Optimization(optimizer="adam", momentum=0.5).momentum_of_sgd == 0


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ({"optimizer": "adamz"}, "optimizer", "did you mean"),
        ({"optimizer": "lbfgs"}, "optimizer", "several times per step"),
        ({"settings": {"nestrov": True}}, "settings.nestrov", "did you mean nesterov"),
        ({"settings": {"lr": 0.1}}, "settings.lr", "set by learning_rate"),
        ({"optimizer": "adam", "settings": {"eps": -1.0}}, "settings.eps", "Invalid epsilon"),
        ({"optimizer": "adam", "settings": {"betas": [2, 0.9], "eps": 1e-6}}, "settings.betas", "Invalid beta"),
        ({"optimizer": "adagrad", "momentum": 0.5}, "momentum", "adagrad has none"),
        ({"optimizer": "rprop", "weight_decay": 0.5}, "weight_decay", "rprop has none"),
        (
            {"optimizer": "adam", "momentum": 0.5, "settings": {"betas": [0.9, 0.99]}},
            "momentum",
            "give one of them",
        ),
        ({"weight_decay": -1.0}, "weight_decay", "at least 0"),
        ({"decay_norms_and_biases": False}, "decay_norms_and_biases", "changes nothing"),
        ({"groups": {"a": 0.1}}, "groups.a", "mapping of settings"),
        ({"groups": {"a": {"learning_rat": 0.1}}}, "groups.a.learning_rat", "no such setting"),
        ({"groups": {"a": {"learning_rate": -0.1}}}, "groups.a.learning_rate", "positive"),
        ({"optimizer": torch.optim.Adam, "learning_rate": 0.1}, "learning_rate", "the function that makes"),
        ({"optimizer": 3}, "optimizer", "must be"),
    ],
)
def test_what_is_refused(given, key, message):
    with pytest.raises(SettingError, match=message) as error:
        Optimization(**given)
    assert error.value.key == key


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ({"groups": {"4.*": {"learning_rate": 0.1}}}, "groups.4.*", "matches for no trained parameter"),
        ({"groups": {"*": {"weight_decay": 0.1}, "0.*": {}}}, "groups.0.*", "matches for no trained parameter"),
        ({"optimizer": lambda p: torch.optim.SGD(p[1:], lr=0.1)}, "optimizer", "leaves out 1 of the 6"),
        ({"optimizer": lambda p: 3}, "optimizer", "must make an optimizer"),
        ({"optimizer": "muon"}, "optimizer", "muon does not take these parameters"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(given, key, message):
    built = network()
    with pytest.raises(SettingError, match=message) as error:
        Optimization(**given).build(list(built.parameters()), built)
    assert error.value.key == key


def test_groups_without_a_network_are_refused():
    with pytest.raises(SettingError, match="need the network"):
        Optimization(groups={"*": {}}).build(list(network().parameters()))
