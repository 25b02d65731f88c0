"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest
import selftune.objectives
import selftune.search_spaces
import torch

import selftune

EXTRAS = {
    "selftune.integrations.lightning": "pytorch_lightning",
    "selftune.integrations.hugging_face": "transformers",
    "selftune.integrations.hugging_face_loss": "transformers",
}
"""What modules need that are no part of an ordinary installation."""


def _modules():
    for package in (selftune, selftune.objectives, selftune.search_spaces):
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                yield module.name


@pytest.mark.parametrize("name", sorted(set(_modules())))
def test_examples_of(name):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    module = importlib.import_module(name)
    torch.manual_seed(0)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert results.failed == 0
