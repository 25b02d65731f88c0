"""The simulated cluster: every order is done although trainers die, and a driver asks those of whom it heard."""

import pytest
from simulated_cluster import Scenario, simulated

from selftune.schedulers import slots
from selftune.schedulers.team import Team
from selftune.tracking.trajectory import TrajectoryWriter


@pytest.fixture(autouse=True)
def nodes(monkeypatch):
    monkeypatch.setattr(slots, "alive", lambda: [{"CPU": 1e6}])


def test_every_team_comes_to_its_end_although_trainers_die(monkeypatch):
    rows = []
    monkeypatch.setattr(
        TrajectoryWriter, "hyper_step", lambda self, step: rows.append((self.folder.name, step.number))
    )
    row = simulated(Scenario(teams=3, members=2, orders=240, deaths=0.03), hyperparameters=2, scale=1.0, seed=0)
    assert row["deaths"] > 0
    assert sorted(rows) == sorted((f"team-{team}", number) for team in range(3) for number in range(40))


def test_what_an_order_takes_does_not_depend_on_the_number_of_teams(monkeypatch):
    asked = []
    ask = Team.ask
    monkeypatch.setattr(Team, "ask", lambda self: asked.append(self) or ask(self))
    row = simulated(Scenario(teams=40, members=1, orders=800, deaths=0), hyperparameters=2, scale=1.0, seed=0)
    assert len(asked) <= 2 * row["orders"]
