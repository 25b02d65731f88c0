"""Best-response networks: an unmodified network whose weights respond to hyperparameters, to first order."""

from selftune.hypergradients.best_response import linear_maps, nonlinear, reads
from selftune.hypergradients.best_response.constants import frozen_statistics
from selftune.hypergradients.best_response.conversion import convert
from selftune.hypergradients.best_response.report import ConversionReport, LayerReport
from selftune.hypergradients.best_response.response import BestResponse

__all__ = ["BestResponse", "ConversionReport", "LayerReport", "convert", "frozen_statistics"]
