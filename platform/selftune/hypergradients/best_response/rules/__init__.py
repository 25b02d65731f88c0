"""How each type of module responds to hyperparameters: one small class a type, found through one registry."""

from selftune.hypergradients.best_response.rules import convolution as _convolution
from selftune.hypergradients.best_response.rules import linear as _linear
from selftune.hypergradients.best_response.rules import multihead_attention as _multihead_attention
from selftune.hypergradients.best_response.rules import recurrent as _recurrent
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds, rule_of

_RULES = (_convolution, _linear, _multihead_attention, _recurrent)  # each registers its rules when imported

__all__ = ["ModuleResponse", "Rule", "responds", "rule_of"]
