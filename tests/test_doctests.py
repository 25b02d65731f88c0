"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest
import selftune.objectives
import selftune.search_spaces
import torch

import selftune


def _modules():
    for package in (selftune, selftune.objectives, selftune.search_spaces):
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                yield module.name


@pytest.mark.parametrize("name", sorted(set(_modules())))
def test_examples_of(name):
    module = importlib.import_module(name)
    torch.manual_seed(0)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert results.failed == 0
