"""The command ``selftune render``: the manifests of a study for Kubernetes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.command_arguments import positive

if TYPE_CHECKING:
    from selftune.studies.study import Trainers

# Everything heavy is imported by the command that needs it, so that --help and mistakes come at once.

_AT_ONCE = 4  # trials of a sweep that says nothing of them


def add_render_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what ``render`` takes beside the study."""
    from selftune.kubernetes.render import OVERLAYS, PARTS

    parser.add_argument(
        "--overlay", choices=OVERLAYS, required=True, help="what cluster it is: " + ", ".join(OVERLAYS)
    )
    parser.add_argument("--name", metavar="NAME", help="of the study's resources (default: the study's)")
    parser.add_argument("--namespace", metavar="NAME", default="selftune", help="(default: selftune)")
    parser.add_argument("--image", metavar="REFERENCE", help="selftune's image (default: selftune:VERSION-cpu)")
    parser.add_argument("--memory", type=positive, metavar="GIB", help="of each pod of workers, in GiB")
    parser.add_argument(
        "--operator-namespace",
        metavar="NAME",
        default="kuberay-system",
        help="where KubeRay's operator runs (default: kuberay-system)",
    )
    words = "only what studies share (platform), or only what this one has (study)"
    parser.add_argument("--part", choices=PARTS, default="all", help=words)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there (default: to the terminal)")


def render_study(options: argparse.Namespace) -> int:
    """Writes the manifests.

    Raises:
        UserError: if something in the request is wrong.
    """
    from selftune.kubernetes.cluster_size import size_of
    from selftune.kubernetes.names import check_image, check_label, study_name
    from selftune.kubernetes.render import Rendering, render, usual_image
    from selftune.studies.mistakes import UserError

    check_label("--namespace", options.namespace)
    check_label("--operator-namespace", options.operator_namespace)
    study, text, trainers, trials = _load(options)
    size = size_of(trainers, trials, options.memory)
    name = study_name(study, options.name)
    image = options.image or usual_image(size)
    check_image("--image", image, digest=options.overlay == "production")
    manifests = render(
        Rendering(
            text=text,
            name=name,
            size=size,
            overlay=options.overlay,
            output=f"s3://selftune/{name}",
            namespace=options.namespace,
            images={"selftune": image},
            operator_namespace=options.operator_namespace,
            part=options.part,
        )
    )
    if options.output is None:
        print(manifests, end="")
        return 0
    try:
        options.output.write_text(manifests, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{options.output}: cannot be written: {reason}") from error
    return 0


def _load(options: argparse.Namespace) -> tuple[str, str, Trainers, int]:
    """The study's name, the text of its file, its trainers, and how many trials train at once."""
    from selftune.studies.packaged import find_study
    from selftune.studies.yaml_file import check_yaml, read_text
    from selftune.sweeps.sweep_file import is_sweep, load_sweep

    path = find_study(options.study)
    check_yaml(path)
    if is_sweep(read_text(path)):
        swept = load_sweep(path, options.seed, options.steps)
        settings = swept.settings
        trials = settings.concurrent or min(settings.trials or _AT_ONCE, _AT_ONCE)
        return swept.study.study, swept.text, swept.study.trainers, trials
    from selftune.studies.study_file import load_study

    study = load_study(path, options.seed, options.steps)
    return study.study, study.text, study.trainers, 1
