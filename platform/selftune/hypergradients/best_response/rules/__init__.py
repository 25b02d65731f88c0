"""How each type of module responds to hyperparameters: one small class a type, found through one registry."""

import importlib
import pkgutil

from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds, rule_of

for _module in pkgutil.iter_modules(__path__):  # each registers its rules when imported
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["ModuleResponse", "Rule", "responds", "rule_of"]
