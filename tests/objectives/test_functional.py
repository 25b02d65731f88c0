"""The catalogue's functions by name: each brings its own file, and editors know all of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from selftune.objectives import functional
from selftune.objectives.function_files import module_of, modules_by_function, stub

from selftune.registries.diagnostics import diagnostics
from selftune.registries.solvers import solvers
from selftune.regularization.regularizer import regularizers


def entries_loaded_by(code):
    """The entries' files that are imported."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {*done.stdout.split()} & {*modules_by_function().values()}
    return {module.rpartition(".")[2] for module in loaded if module.startswith("selftune.objectives.")}


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("mixup", {"mixup"}),
        ("rank_me", {"rank_me"}),
        ("kernel_self_distillation", {"kernel_self_distillation"}),
        ("vicreg_variance", {"vicreg"}),
        ("elastic_net", {"elastic_net", "l1", "weight_decay"}),  # it is the sum of these two
    ],
)
def test_a_function_imports_its_own_file(name, needed):
    assert entries_loaded_by(f"from selftune.objectives.functional import {name}") == needed


def test_listing_them_imports_none():
    assert not entries_loaded_by("from selftune.objectives import functional; dir(functional)")


def test_it_lists_every_function():
    assert dir(functional) == functional.__all__ == sorted(modules_by_function())
    assert {*regularizers.names(), *diagnostics.names(), *solvers.names()} <= {*dir(functional)}


@pytest.mark.parametrize(("name", "module"), modules_by_function().items())
def test_what_is_found_by_reading_is_what_is_imported(name, module):
    assert module_of(name) == module
    assert getattr(functional, name).__module__ == module


def test_a_star_imports_them_all():
    found = {}
    exec("from selftune.objectives.functional import *", found)
    assert {*functional.__all__} <= {*found}


@pytest.mark.parametrize("name", ["mixupp", "_private", "torch"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(AttributeError, match=f"the catalogue has no function {name}"):
        getattr(functional, name)


def test_the_stub_for_editors_is_up_to_date():
    written = Path(functional.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert written == stub(), "run `make docs`"
