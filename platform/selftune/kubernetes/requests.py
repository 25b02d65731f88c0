"""What a person asks of ``selftune render``: checked as a whole, one sentence per mistake."""

from __future__ import annotations

import ipaddress
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from selftune.kubernetes.cluster_size import ClusterSize
from selftune.kubernetes.names import check_host, check_image, check_label
from selftune.kubernetes.overlays import NEEDED, ONLY_OF
from selftune.kubernetes.production import Production
from selftune.kubernetes.render import usual_image
from selftune.studies.mistakes import UserError

_IMAGES = {
    "selftune": "image",
    "server": "server_image",
    "postgresql": "postgresql_image",
    "gateway": "gateway_image",
}
_LABELS = ("namespace", "operator_namespace", "queue", "gang", "volume", "tls_secret", "login_secret")
_BUCKETS = ("selftune", "mlflow")  # of the object store in the cluster


def check_request(options: Namespace, size: ClusterSize) -> None:
    """Refuses arguments that are wrong, missing, of no use, or contradict each other.

    Raises:
        UserError: one line per mistake.
    """
    lines = [*_missing(options), *_useless(options, size), *_contradictions(options), *_malformed(options)]
    if lines:
        raise UserError(*lines)


def images_of(options: Namespace, size: ClusterSize) -> dict[str, str]:
    """References to images, by the names of ``render.IMAGES``; those that are not given stay the overlay's."""
    given = {name: getattr(options, key) for name, key in _IMAGES.items() if getattr(options, key)}
    return {"selftune": usual_image(size.gpus), "server": options.image or usual_image(), **given}


def results_of(options: Namespace, name: str) -> str:
    """Where a study's results go: what was given, or a place of its own in the store or on the volume."""
    if options.volume:
        return f"/results/{name}"
    return str(options.output_address or f"s3://selftune/{name}").rstrip("/")


def production_of(options: Namespace) -> Production | None:
    """What the overlay production asks for; None for the others."""
    if options.overlay != "production":
        return None
    keys = ("s3_region", "s3_endpoint", "tls_secret", "login_secret", "cluster_domain")
    given = {key.removeprefix("s3_"): getattr(options, key) for key in keys if getattr(options, key)}
    return Production(
        host=options.host,
        artifacts=options.mlflow_artifacts.rstrip("/"),
        networks=tuple(options.s3_cidr),
        **given,
    )


def _argument(key: str) -> str:
    return "--" + key.replace("_", "-")


def _missing(options: Namespace) -> Iterator[str]:
    for key, what in NEEDED.get(options.overlay, {}).items():
        if not getattr(options, key):
            yield f"{_argument(key)}: is needed by the overlay {options.overlay}: {what}"
    if options.overlay == "production" and not (options.output_address or options.volume or options.interactive):
        yield (
            "--output-address: is needed by the overlay production, where the results go, s3://BUCKET/PATH; or"
            " --volume, a claim"
        )


def _useless(options: Namespace, size: ClusterSize) -> Iterator[str]:
    for key, overlay in ONLY_OF.items():
        if getattr(options, key) and options.overlay != overlay:
            yield f"{_argument(key)}: is of no use with the overlay {options.overlay}, but with {overlay} alone"
    if options.overlay in ("gpu", "gpu-spot") and not size.gpus:
        yield (
            f"--overlay: {options.overlay} is for studies that train on GPUs, and this one asks for none; set"
            " trainers.gpus in its file, or take cpu-small"
        )
    if options.overlay == "cpu-small" and size.gpus:
        yield "--overlay: cpu-small has no GPUs, and the study's trainers.gpus asks for some; take gpu or gpu-spot"


def _contradictions(options: Namespace) -> Iterator[str]:
    def both(one: str, other: str) -> bool:
        return bool(getattr(options, one)) and bool(getattr(options, other))

    if both("schedule", "interactive"):
        yield "--interactive: makes a cluster without a job, which no --schedule can start; leave one of them out"
    if both("queue", "gang"):
        yield "--gang: Kueue starts all pods of a study or none as well; leave out --gang or --queue"
    for key, other in (("queue", "a LocalQueue of the name default"), ("gang", "Volcano's queue default")):
        if both("schedule", key):
            yield (
                f"{_argument(key)}: KubeRay gives the jobs of a schedule no labels, so that they are in no queue;"
                f" leave it out, and {other} takes them"
            )
    if options.queue and options.overlay == "gpu-spot":
        yield (
            "--queue: Kueue gives room to clusters of a fixed size, and that of gpu-spot grows and shrinks;"
            " take the overlay gpu"
        )
    if both("volume", "output_address"):
        yield "--output-address: the results go to the volume; leave out this or --volume"
    if options.interactive and options.output_address:
        yield "--output-address: is of no use with --interactive; say it to `selftune run` there"


def _malformed(options: Namespace) -> Iterator[str]:
    digest = options.overlay == "production"
    for key in _LABELS:
        if given := getattr(options, key):
            yield from _refusals(check_label, _argument(key), given)
    for key in _IMAGES.values():
        if given := getattr(options, key):
            yield from _refusals(check_image, _argument(key), given, digest)
    for key in ("host", "cluster_domain"):
        if given := getattr(options, key):
            yield from _refusals(check_host, _argument(key), given)
    for key in ("api_server", "s3_cidr"):
        for given in getattr(options, key):
            yield from _network(_argument(key), given)
    for key in ("output_address", "mlflow_artifacts"):
        if given := getattr(options, key):
            yield from _address(_argument(key), given, options.overlay)
    if options.s3_endpoint:
        yield from _endpoint(options.s3_endpoint)
    if options.s3_region and not re.fullmatch(r"[a-z0-9-]{1,40}", options.s3_region):
        yield f"--s3-region: must be a name such as eu-central-1, got {options.s3_region!r}"
    if options.schedule and not _is_schedule(options.schedule):
        yield (
            "--schedule: must be five fields of cron, minute, hour, day, month, weekday, such as '0 2 * * *',"
            f" got {options.schedule!r}"
        )


def _refusals(check: Callable[..., None], *arguments: object) -> Iterator[str]:
    try:
        check(*arguments)
    except UserError as error:
        yield from error.lines


def _network(argument: str, given: str) -> Iterator[str]:
    try:
        ipaddress.ip_network(given)
    except ValueError:
        yield f"{argument}: must be a network such as 203.0.113.0/24, or an address with /32, got {given!r}"
    else:
        if "/" not in given:
            yield f"{argument}: must say how many bits count, such as {given}/32"


def _address(argument: str, given: str, overlay: str) -> Iterator[str]:
    parts = urlsplit(given)
    if parts.scheme != "s3" or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
        yield f"{argument}: must be an address such as s3://bucket/path, without credentials in it, got {given!r}"
    elif not re.fullmatch(r"(/[A-Za-z0-9._-]+)*/?", parts.path) or parts.query or parts.fragment:
        yield f"{argument}: the path must be of letters, digits, '.', '_', '-' and '/', got {given!r}"
    elif overlay != "production" and parts.netloc not in _BUCKETS:
        yield (
            f"{argument}: the object store of {overlay} has the buckets {' and '.join(_BUCKETS)} alone,"
            f" got {parts.netloc!r}"
        )
    elif argument == "--output-address" and not parts.path.strip("/"):
        yield f"{argument}: must name a folder in the bucket, such as {given.rstrip('/')}/digits"


def _endpoint(given: str) -> Iterator[str]:
    parts = urlsplit(given)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.path.strip("/") or parts.query:
        yield f"--s3-endpoint: must be an address such as https://s3.example.org, got {given!r}"
    elif parts.port not in (None, 443):
        yield f"--s3-endpoint: must listen on port 443, the only one that the network policies open, got {given!r}"


_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))  # of cron, as the library of KubeRay's operator reads them


def _is_schedule(given: str) -> bool:
    fields = given.split()
    return len(fields) == len(_FIELDS) and all(map(_is_field, fields, _FIELDS))


def _is_field(field: str, limits: tuple[int, int]) -> bool:
    for part in field.split(","):
        found = re.fullmatch(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", part)
        if not found:
            return False
        first, last, step = (None if number is None else int(number) for number in found.groups())
        if any(number is not None and not limits[0] <= number <= limits[1] for number in (first, last)):
            return False
        if (first is not None and last is not None and first > last) or step == 0:
            return False
    return True
