"""Best-response networks: an unmodified network whose weights respond to hyperparameters, to first order."""

from selftune.hypergradients.best_response.conversion import convert
from selftune.hypergradients.best_response.dual import total
from selftune.hypergradients.best_response.report import ConversionReport, LayerReport
from selftune.hypergradients.best_response.response import BestResponse, has_response
from selftune.hypergradients.best_response.rules import Rule, responds

__all__ = [
    "BestResponse",
    "ConversionReport",
    "LayerReport",
    "Rule",
    "convert",
    "has_response",
    "responds",
    "total",
]
