"""Best-response networks: an unmodified network whose weights respond to hyperparameters, to first order."""

from selftune.hypergradients.best_response import in_place as _in_place
from selftune.hypergradients.best_response import linear_maps as _linear_maps
from selftune.hypergradients.best_response import nonlinear as _nonlinear
from selftune.hypergradients.best_response import reads as _reads
from selftune.hypergradients.best_response.conversion import convert
from selftune.hypergradients.best_response.pair import total, unwrap
from selftune.hypergradients.best_response.report import ConversionReport, LayerReport
from selftune.hypergradients.best_response.response import BestResponse

_RULES = (_in_place, _linear_maps, _nonlinear, _reads)  # each registers rules of pairs when imported

__all__ = ["BestResponse", "ConversionReport", "LayerReport", "convert", "total", "unwrap"]
