"""Which tensors of a network respond, by which rule, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import torch.nn.utils.parametrize as parametrize
from torch import nn

from selftune.hypergradients.best_response.report import WEIGHT_SPACE, LayerReport
from selftune.hypergradients.best_response.response import RespondingModule, RespondingTensor
from selftune.hypergradients.best_response.rules.rule import Rule, is_subclass_with_own_forward, rule_of
from selftune.networks.inventory import Inventory
from selftune.networks.network_state import has_hooked_weight
from selftune.shapes import Tensor

WithoutRule = Literal["auto", "weight_space", "plain"]
WEIGHT_SPACE_SHARE = 0.1
"""Tensors without a rule respond in weight space by themselves where they hold this share of what is trained."""


class Plan:
    """What a conversion of a network will do.

    Args:
        of_all: modules whose inputs have no examples and that must stay plain, and why.

    Attributes:
        modules: those with a rule and a tensor that responds, in the order in which they run, by name.
        tensors: those that respond, by name, a module's own together.
        report: an entry per module that holds parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        inventory: Inventory,
        hyperparameters: int,
        rank: int | Literal["auto"],
        output_layer: bool,
        without_rule: WithoutRule,
        of_all: Mapping[str, str] | None = None,
    ) -> None:
        self._of_all = of_all or {}
        self._modules = dict(model.named_modules())
        self._inventory = inventory
        self._hyperparameters = hyperparameters
        self._rank = rank
        self._parameters = dict(model.named_parameters())
        self._names = {
            id(parameter): inventory.canonical(name)
            for name, parameter in model.named_parameters(remove_duplicate=False)
        }
        self._compiled = tuple(name for name, module in self._modules.items() if hasattr(module, "_orig_mod"))

        order = sorted(inventory.modules, key=lambda name: name == inventory.last)
        rules = {name: rule for name in order if (rule := rule_of(self._modules[name])) is not None}
        self._obstacles = {name: self._obstacle(name) for name in self._modules}
        weighted = [
            n for n, r in rules.items() if any(self._parameters[p].ndim > 1 for p in self._own(n, r).values())
        ]
        self._plain = self._compiled
        if weighted and not output_layer:
            self._obstacles[weighted[-1]] = "the output layer, which output_layer=False leaves plain"
            self._plain += (weighted[-1],)
        self._covered = {name: self._own(name, rule) for name, rule in rules.items() if not self._obstacles[name]}
        self._rules = rules

        shared = self._without_rule(without_rule)
        self.tensors = {
            full: self._tensor(name, local, full)
            for name, covered in self._covered.items()
            for local, full in covered.items()
            if not self._obstacle_of_tensor(full)
        }
        self.tensors |= {full: self._in_weight_space(full) for full in shared}
        self.modules = {
            name: RespondingModule(
                rules[name],
                kept,
                inventory.modules[name].batch_axis or 0,
                inventory.modules[name].without_examples,
                inventory.modules[name].folded,
            )
            for name, covered in self._covered.items()
            if (kept := {local: full for local, full in covered.items() if full in self.tensors})
        }
        self.report = tuple(self._entries())

    def _without_rule(self, without_rule: WithoutRule) -> list[str]:
        """The tensors that respond in weight space.

        A module computes either with weights of each example's own or with those of the whole batch. So one that
        has a rule and a tensor in weight space has all of them there, and so have others that hold the same.
        """
        ruled = {
            full
            for covered in self._covered.values()
            for full in covered.values()
            if not self._obstacle_of_tensor(full)
        }
        plain = {id(p) for name in self._plain for p in self._modules[name].parameters()}
        trained = {name: p for name, p in self._parameters.items() if p.requires_grad}
        left = {
            name
            for name, p in trained.items()
            if name not in ruled and id(p) not in plain and name in self._inventory.places
        }
        share = sum(trained[name].numel() for name in left) / max(1, sum(p.numel() for p in trained.values()))
        if without_rule == "plain" or not left or (without_rule == "auto" and share < WEIGHT_SPACE_SHARE):
            return []
        while True:
            mixed = [name for name, covered in self._covered.items() if left.intersection(covered.values())]
            if not mixed:
                return [name for name in self._parameters if name in left]
            for name in mixed:
                left.update(self._covered.pop(name).values())

    def _own(self, name: str, rule: Rule) -> dict[str, str]:
        """The trained parameters that a rule covers: name in the module -> name in the network."""
        module, result = self._modules[name], {}
        for local in rule.parameters(module):
            owner, _, leaf = local.rpartition(".")
            parameter = module.get_submodule(owner)._parameters[leaf]
            if parameter is not None and parameter.requires_grad:
                result[local] = self._names[id(parameter)]
        return result

    def _tensor(self, name: str, local: str, full: str) -> RespondingTensor:
        looked_up = all(
            where in self._rules[other].looked_up
            for other, covered in self._covered.items()
            for where, tensor in covered.items()
            if tensor == full
        )
        module = self._modules[name]
        beside = [module.get_parameter(each) for each in self._rules[name].parameters(module)]
        return RespondingTensor(self._rank_of(full), self._bound(full, beside), looked_up)

    def _in_weight_space(self, full: str) -> RespondingTensor:
        beside = self._modules[full.rpartition(".")[0]].parameters(recurse=False)
        return RespondingTensor(self._rank_of(full), self._bound(full, beside), shared=True)

    def _rank_of(self, full: str) -> int:
        own, n = self._parameters[full], self._hyperparameters
        if own.ndim <= 1:
            return 1
        return min(n, -(-n // len(own))) if self._rank == "auto" else self._rank

    def _bound(self, full: str, beside: Iterable[Tensor]) -> float:
        """How large directions are: of a weight as kaiming_uniform with a = sqrt 5 makes weights.

        A bias goes with its weight; what has no weight beside it may move by as much as it is large.
        """
        own = self._parameters[full]
        weight = own if own.ndim > 1 else next((weight for weight in beside if weight.ndim > 1), None)
        if weight is not None:
            return float(weight[0].numel() ** -0.5)
        return float(own.detach().float().square().mean().sqrt()) or 1.0

    # Why not -----------------------------------------------------------------------------------------

    def _obstacle(self, name: str) -> str:
        """Why a module as a whole stays plain; empty if it need not."""
        module = self._modules[name]
        if any(name == outer or name.startswith(f"{outer}." if outer else "") for outer in self._compiled):
            return "inside a compiled module; convert before torch.compile"
        if parametrize.is_parametrized(module):
            return "its weight is computed by torch.nn.utils.parametrize"
        if has_hooked_weight(module):
            return "its weight is computed by a hook of torch.nn.utils"
        rule = rule_of(module)
        if rule is None and is_subclass_with_own_forward(module):
            return "a subclass, whose forward may not be that of its base"
        if rule is None:
            return "no rule for this type; trained as elementary"
        if not self._own(name, rule):
            return "it is not trained"
        if "forward" in module.__dict__:
            return "its forward was replaced"
        if rule.obstacle(module):
            return rule.obstacle(module)
        use = self._inventory.modules.get(name)
        if use is None:
            return "its forward is never called"
        if use.without_examples and rule.serves_without_examples:
            return self._of_all.get(name, "")
        if use.batch_axis != 0 and not (rule.any_batch_axis and use.batch_axis is not None):
            return "the leading axis of its input is not the batch"
        if rule.batch_axis(module) not in (None, use.batch_axis):
            return "it mixes the examples of a batch"
        return ""

    def _obstacle_of_tensor(self, full: str) -> str:
        """Why a tensor stays plain although a module with a rule holds it; empty if it need not."""
        places = self._inventory.places.get(full, frozenset())
        holders = {name for name, covered in self._covered.items() if full in covered.values()}
        if all(holders.intersection(place) for place in places):
            return "" if places else "is never used"
        tied = next((group for group in self._inventory.tied if full in group), ())
        others = [place for place in tied if place.rpartition(".")[0] not in holders]
        return f"is tied to {', '.join(others)}" if others else "is also used without its forward"

    def _entries(self) -> Iterator[LayerReport]:
        by_rule = {  # the rule that stands for a tensor, under each name that it has
            f"{name}.{local}" if name else local: name
            for name, responding in self.modules.items()
            for local in responding.tensors
        }
        for name, module in self._modules.items():
            own = {local: p for local, p in module._parameters.items() if p is not None}
            if not own and not parametrize.is_parametrized(module):
                continue
            places = {f"{name}.{local}" if name else local: self._names[id(p)] for local, p in own.items()}
            moving = [place for place in places if place in by_rule]
            kind = type(module).__name__
            shared = [self.tensors[full].rank for full in places.values() if self._is_shared(full)]
            if shared:
                yield LayerReport(name, kind, max(shared), self._obstacles[name], WEIGHT_SPACE)
                continue
            if not moving:
                yield LayerReport(name, kind, None, self._reason(name, own))
                continue
            rule = self._rules[by_rule[moving[0]]]
            ranks = [self.tensors[places[p]].rank for p in moving if self._parameters[places[p]].ndim > 1]
            still = [p.rpartition(".")[2] for p in places if p not in moving]
            yield LayerReport(
                name, kind, max(ranks, default=1), f"plain: {', '.join(still)}" if still else "", rule.name
            )

    def _is_shared(self, full: str) -> bool:
        return full in self.tensors and self.tensors[full].shared

    def _reason(self, name: str, own: dict[str, nn.Parameter]) -> str:
        if self._obstacles[name]:
            return self._obstacles[name]
        for local, parameter in own.items():
            reason = self._obstacle_of_tensor(self._names[id(parameter)])
            if reason and parameter.requires_grad:
                return f"its {local} {reason}"
        return "it is not trained"
