"""Names and references that Kubernetes takes."""

from __future__ import annotations

import re

from selftune.studies.mistakes import UserError

LONGEST = 40  # KubeRay makes names of 63 characters of it: it takes 47, of what a schedule starts 36
LONGEST_SCHEDULED = 36
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DIGEST = re.compile(r"[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}")
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9./:_-]*(@sha256:[0-9a-f]{64})?")


def study_name(study: str, given: str | None, longest: int = LONGEST) -> str:
    """The name of a study's resources: what was given, or what can be made of the study's own name.

    Raises:
        UserError: if it is no name that Kubernetes takes.

    >>> study_name("Digits_v2", None)
    'digits-v2'
    """
    if given is not None:
        check_label("--name", given, longest)
        return given
    made = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    if not _LABEL.fullmatch(made) or len(made) > longest:
        raise UserError(
            f"study: {study!r} makes no name that Kubernetes takes ({_rule(longest)}); give one with --name"
        )
    return made


def check_label(argument: str, given: str, longest: int = 63) -> None:
    """Refuses what is no DNS label that begins with a letter.

    Raises:
        UserError: if it is none, or too long.
    """
    if not _LABEL.fullmatch(given) or len(given) > longest:
        raise UserError(f"{argument}: must be {_rule(longest)}, got {given!r}")


def check_host(argument: str, given: str) -> None:
    """Refuses what is no name of a host.

    Raises:
        UserError: if so.
    """
    if len(given) > 253 or not re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", given
    ):
        raise UserError(f"{argument}: must be a name such as selftune.example.org, got {given!r}")


def check_image(argument: str, given: str, digest: bool) -> None:
    """Refuses what is no reference to an image, or has no digest where one is needed.

    Raises:
        UserError: if so.
    """
    if digest and not _DIGEST.fullmatch(given):
        raise UserError(
            f"{argument}: the overlay production takes an image by its digest, NAME@sha256:... with 64 digits"
            f" (`docker buildx imagetools inspect NAME:TAG` prints it), got {given!r}"
        )
    if not _IMAGE.fullmatch(given):
        raise UserError(f"{argument}: must be a reference to an image such as selftune:0.1.0-cpu, got {given!r}")


def _rule(longest: int) -> str:
    return f"up to {longest} small letters, digits and hyphens, the first a letter, the last no hyphen"
