"""The command ``selftune render``: the manifests of a study for Kubernetes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.command_arguments import positive
from selftune.kubernetes.overlays import OVERLAYS, PARTS

if TYPE_CHECKING:
    from selftune.studies.study import Trainers

# Everything heavy is imported by the command that needs it, so that --help and mistakes come at once.

_AT_ONCE = 4  # trials of a sweep that says nothing of them


def add_render_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what ``render`` takes beside the study."""
    add = parser.add_argument
    add("--overlay", choices=OVERLAYS, required=True, help="what kind of cluster")
    add("--name", metavar="NAME", help="of the study's resources (default: the study's)")
    add("--namespace", metavar="NAME", default="selftune", help="of everything (default: selftune)")
    add("--memory", type=positive, metavar="GIB", help="of each pod of workers (default: 4 a CPU, 32 a GPU)")
    words = f"trials of a sweep that have room at once (default: the sweep's, or {_AT_ONCE})"
    add("--concurrent", type=positive, metavar="N", help=words)
    add("--part", choices=PARTS, default="all", help="only what studies share, or only what is this study's")
    add("--output", type=Path, metavar="FILE", help="write there, not to the terminal")

    group = parser.add_argument_group("how it runs")
    add = group.add_argument
    add("--queue", metavar="QUEUE", help="a LocalQueue of Kueue's, which says when the study starts")
    add("--gang", metavar="QUEUE", help="a queue of Volcano's, which starts all pods or none")
    add("--schedule", metavar="CRON", help="again and again, such as '0 2 * * *' (a RayCronJob)")
    add("--interactive", action="store_true", help="a cluster without a job (a RayCluster)")
    add("--output-address", metavar="ADDRESS", help="where the results go (default: s3://selftune/NAME)")
    add("--volume", metavar="CLAIM", help="results go to /results/NAME on the volume of this claim instead")

    group = parser.add_argument_group("images")
    add = group.add_argument
    add("--image", metavar="IMAGE", help="selftune's (default: selftune:VERSION-cpu, or -cuda)")
    words = "of MLflow's server, selftune's, too (default: --image, or selftune:VERSION-cpu)"
    add("--server-image", metavar="IMAGE", help=words)
    add("--postgresql-image", metavar="IMAGE", help="of MLflow's database (default: postgres:17-bookworm)")
    add("--gateway-image", metavar="IMAGE", help="of nginx, unprivileged; of the overlay production alone")

    group = parser.add_argument_group("addresses")
    add = group.add_argument
    words = "where KubeRay's operator runs (default: kuberay-system)"
    add("--operator-namespace", metavar="NAME", default="kuberay-system", help=words)
    words = "of gpu-spot: an address of the Kubernetes API, for the autoscaler; may be given several times"
    add("--api-server", metavar="CIDR", action="append", default=[], help=words)
    words = "of production: a network in which the object store is; may be given several times"
    add("--s3-cidr", metavar="CIDR", action="append", default=[], help=words)
    add("--s3-endpoint", metavar="URL", help="of production: an object store that is not AWS'")
    add("--s3-region", metavar="REGION", help="of production: the object store's (default: us-east-1)")
    add("--mlflow-artifacts", metavar="ADDRESS", help="of production: where MLflow keeps files, s3://BUCKET/PATH")
    add("--host", metavar="NAME", help="of production: by which browsers call MLflow and the dashboards")
    words = "of production: a certificate for it (default: selftune-tls)"
    add("--tls-secret", metavar="SECRET", help=words)
    words = "of production: the users of MLflow, a file htpasswd (default: selftune-login)"
    add("--login-secret", metavar="SECRET", help=words)
    words = "of production: the end of names in the cluster's DNS (default: cluster.local)"
    add("--cluster-domain", metavar="NAME", help=words)


def render_study(options: argparse.Namespace) -> int:
    """Writes the manifests.

    Raises:
        UserError: if something in the request is wrong.
    """
    from selftune.kubernetes.cluster_size import size_of
    from selftune.kubernetes.config_map import files_beside
    from selftune.kubernetes.names import LONGEST, LONGEST_SCHEDULED, study_name
    from selftune.kubernetes.render import Rendering, render
    from selftune.kubernetes.requests import check_request, images_of, production_of, results_of
    from selftune.studies.mistakes import UserError
    from selftune.studies.packaged import find_study

    path = find_study(options.study)
    study, text, trainers, trials = _load(path, options)
    size = size_of(trainers, trials, options.memory)
    name = study_name(study, options.name, LONGEST_SCHEDULED if options.schedule else LONGEST)
    check_request(options, size)
    manifests = render(
        Rendering(
            text=text,
            files=files_beside(path, text),
            name=name,
            size=size,
            overlay=options.overlay,
            output=results_of(options, name),
            namespace=options.namespace,
            images=images_of(options, size),
            operator_namespace=options.operator_namespace,
            api_server=tuple(options.api_server),
            volume=options.volume,
            queue=options.queue,
            gang=options.gang,
            schedule=options.schedule,
            interactive=options.interactive,
            production=production_of(options),
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


def _load(path: Path, options: argparse.Namespace) -> tuple[str, str, Trainers, int]:
    """The study's name, the text of its file, its trainers, and how many trials train at once."""
    from selftune.studies.mistakes import UserError
    from selftune.studies.yaml_file import check_yaml, read_text
    from selftune.sweeps.sweep_file import is_sweep, load_sweep

    check_yaml(path)
    if is_sweep(read_text(path)):
        swept = load_sweep(path, options.seed, options.steps)
        settings = swept.settings
        trials = options.concurrent or settings.concurrent or min(settings.trials or _AT_ONCE, _AT_ONCE)
        return swept.study.study, swept.text, swept.study.trainers, trials
    if options.concurrent:
        raise UserError("--concurrent: is for studies with a section `sweep`, and this one has none")
    from selftune.studies.study_file import load_study

    study = load_study(path, options.seed, options.steps)
    return study.study, study.text, study.trainers, 1
