"""How each type of module responds to hyperparameters: one small class a type, found through one registry."""

from selftune.hypergradients.best_response.rules import batch_norm as _batch_norm
from selftune.hypergradients.best_response.rules import bilinear as _bilinear
from selftune.hypergradients.best_response.rules import convolution as _convolution
from selftune.hypergradients.best_response.rules import embedding as _embedding
from selftune.hypergradients.best_response.rules import group_norm as _group_norm
from selftune.hypergradients.best_response.rules import layer_norm as _layer_norm
from selftune.hypergradients.best_response.rules import linear as _linear
from selftune.hypergradients.best_response.rules import transformers_conv1d as _transformers_conv1d
from selftune.hypergradients.best_response.rules import transposed_convolution as _transposed_convolution
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds, rule_of

_RULES = (
    _batch_norm,
    _bilinear,
    _convolution,
    _embedding,
    _group_norm,
    _layer_norm,
    _linear,
    _transformers_conv1d,
    _transposed_convolution,
)  # each registers its rules when imported

__all__ = ["ModuleResponse", "Rule", "responds", "rule_of"]
