"""Stochastic bilevel solvers: hypergradients from batches, parameters and hyperparameters moved together."""

from selftune.hypergradients.stochastic.amigo import Amigo
from selftune.hypergradients.stochastic.linear_systems import conjugate_gradient, descent, neumann
from selftune.hypergradients.stochastic.mini_batch_oracle import MiniBatchOracle
from selftune.hypergradients.stochastic.saba import Saba
from selftune.hypergradients.stochastic.sampler import Batch, Sampler
from selftune.hypergradients.stochastic.soba import Soba
from selftune.hypergradients.stochastic.solver import State, StochasticSolver, advance, run
from selftune.hypergradients.stochastic.stocbio import StocBiO
from selftune.hypergradients.stochastic.storm import Storm

stochastic_solvers: dict[str, type[StochasticSolver]] = {
    "soba": Soba,
    "saba": Saba,
    "amigo": Amigo,
    "stocbio": StocBiO,
}
"""All solvers by name."""

__all__ = [
    "Amigo",
    "Batch",
    "MiniBatchOracle",
    "Saba",
    "Sampler",
    "Soba",
    "State",
    "StocBiO",
    "StochasticSolver",
    "Storm",
    "advance",
    "conjugate_gradient",
    "descent",
    "neumann",
    "run",
    "stochastic_solvers",
]
