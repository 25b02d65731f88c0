"""The catalogue's entries are all there, by name, family and kind, each with its function and its source."""

import importlib
import inspect
import pkgutil

import pytest
from selftune.objectives import functional

from selftune.lower_level.objective import tasks
from selftune.registries.diagnostics import diagnostics
from selftune.registries.solvers import solvers
from selftune.regularization.regularizer import regularizers

CATALOGUE = {
    "supervision": {
        "penalty": """
            activation_regularization confidence_penalty early_learning elastic_net intrusion_loss l1
            normalized_distillation random_teacher temporal_activation_regularization
            universal_self_distillation weight_decay
        """,
        "target": """
            augmentation_averaged_targets ensemble_targets label_noise label_smoothing mean_teacher
            progressive_self_distillation region_label_calibration self_distillation_targets
            temporal_ensembling
        """,
        "augment": """
            adaptive_mixup brightness co_teaching contrast cutmix cutout delayed_dropout dropout embedding_dropout
            gaussian_input_noise hue input_scaling mixup nested_dropout rotation saturation scaling self_mix shear
            spatial_dropout stochastic_depth translation variational_dropout weight_drop
        """,
        "reparam": "dropconnect ghost_batch_norm interpolated_initialization",
        "gradient": "gradient_clipping multiplicative_gradient_noise",
        "proximal": "decoupled_weight_decay max_norm stochastic_restore",
        "diagnostic": """
            early_stopping optimal_distillation_weight scaling_asymptote scaling_crossover weight_distance
        """,
        "solver": "kernel_self_distillation large_batch_scaling",
        "task": "noisy_label_classification repeated_token_pretraining singular_density_estimation",
    },
    "structure": {
        "penalty": """
            architecture_entropy entropy_maximization group_sparse_envelope hierarchical_group_lasso
            layer_distillation logit_decorrelation normalized_logit_consistency nuclear_norm
            reference_consistency stablemax_cross_entropy top_singular_mass weight_perturbation
        """,
        "augment": "quantization_noise",
        "reparam": """
            adaptive_deviation erdos_renyi_sparsity low_rank_adaptation low_rank_factorization
            ordered_low_rank weight_compander
        """,
        "gradient": """
            bulyan coordinate_median geometric_median krum mean_aggregation multi_krum orthogonal_gradient
            trimmed_mean
        """,
        "proximal": """
            dynamic_sparse_training group_sparse_envelope_proximal magnitude_pruning participation_pruning
            rank_truncation
        """,
        "diagnostic": "inverse_participation_ratio linear_stability naive_loss_alignment softmax_collapse",
        "task": "modular_arithmetic",
    },
    "representation": {
        "penalty": """
            barlow_twins bellman_rank info_nce mixed_barlow_twins nt_xent supervised_contrastive triplet
            vicreg_covariance vicreg_invariance vicreg_variance
        """,
        "diagnostic": "rank_me rank_me_select",
    },
    "dynamics": {
        "penalty": """
            entropic_transport_cost field_of_experts l1_sparsity orthogonal_convolution sinkhorn_divergence
            tikhonov total_variation wavelet_sparsity
        """,
        "solver": "sinkhorn",
    },
    "adaptation": {
        "penalty": """
            correlation_alignment dpo ewc fishr hessian_diagonal_alignment hessian_gradient_alignment
            inter_environment_gradient_alignment invariant_risk_minimization kl_to_reference
            l2_to_old_parameters old_feature_distillation prediction_distillation risk_extrapolation
            soft_equivariance
        """,
        "augment": "experience_replay",
        "gradient": "sam",
        "proximal": "fish",
        "diagnostic": "continual_evaluation equivariance_error global_forgetting",
        "solver": "soft_equivariance_strengths",
    },
}
"""The first entries of the catalogue: family -> kind -> names."""

ENTRIES = [
    (family, kind, name)
    for family, kinds in CATALOGUE.items()
    for kind, names in kinds.items()
    for name in names.split()
]

REGISTERED = [(registry, name) for registry in (regularizers, diagnostics, solvers) for name in registry.names()]


def test_the_first_entries_are_a_hundred_and_forty_one():
    names = [name for _, _, name in ENTRIES]
    assert len(names) == len(set(names)) == 141


@pytest.mark.parametrize(("family", "kind", "name"), ENTRIES)
def test_it_is_registered_under_its_family_and_kind(family, kind, name):
    if kind == "task":
        assert name in tasks.names()
        return
    registry = {"diagnostic": diagnostics, "solver": solvers}.get(kind, regularizers)
    assert (registry[name].family, registry[name].kind) == (family, kind)


@pytest.mark.parametrize(("registry", "name"), REGISTERED)
def test_its_function_names_its_source(registry, name):
    function = getattr(functional, name)
    assert inspect.isfunction(function)
    assert function.__name__ == name
    assert "Source:" in function.__doc__
    assert (registry[name].reference.arxiv or "") in function.__doc__


def module_of(entry):
    """Where an entry is defined; a class that a decorator makes has its function's."""
    return getattr(entry, "function", entry).__module__


@pytest.mark.parametrize(
    "package",
    [*(f"regularizers.{family}" for family in CATALOGUE), "diagnostics", "solvers", "tasks"],
)
def test_every_file_beside_entries_is_an_entry(package):
    entries = {module_of(registry[name]) for registry, name in REGISTERED} | {
        module_of(tasks[name]) for name in tasks.names()
    }
    root = importlib.import_module(f"selftune.objectives.{package}")
    files = {module.name for module in pkgutil.iter_modules(root.__path__, f"{root.__name__}.")}
    assert files - entries == set(), "what is no entry has rooms of its own, see CONTRIBUTING.md"


CLASHES = [(name, other) for name in regularizers.names() for other in regularizers[name].incompatible]


@pytest.mark.parametrize(("name", "other"), CLASHES)
def test_a_clash_is_with_another_entry_and_has_a_reason(name, other):
    assert other in regularizers.names()
    assert other != name
    assert regularizers[name].incompatible[other]
