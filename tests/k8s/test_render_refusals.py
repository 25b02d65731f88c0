"""What is wrong with a request to `selftune render` is refused in a sentence, and nothing is written."""

import pytest
from studies_to_render import DIGEST, ON_CPUS, ON_GPUS, PRODUCTION, SPOT, SWEEP, TO_ACME

from selftune.cli import main

SMALL = ("--overlay", "cpu-small")


@pytest.fixture
def refused(tmp_path, capsys):
    """The lines that a request is refused with: a function of the study's text and of arguments."""

    def refuse(text, *arguments):
        study, out = tmp_path / "study.yaml", tmp_path / "manifests.yaml"
        study.write_text(text)
        assert main(["render", str(study), *arguments, "--output", str(out)]) == 2
        assert not out.exists()
        return capsys.readouterr().err.splitlines()

    return refuse


@pytest.mark.parametrize("missing", ["--image", "--postgresql-image", "--gateway-image", "--s3-cidr", "--host"])
def test_production_needs_what_nobody_can_make_up(refused, missing):
    at = PRODUCTION.index(missing)
    (line,) = refused(ON_CPUS, *PRODUCTION[:at], *PRODUCTION[at + 2 :], *TO_ACME)
    assert line.startswith(f"{missing}: is needed by the overlay production: ")


@pytest.mark.parametrize("image", ["selftune:0.1.0-cpu", "selftune", "selftune@sha256:12", f"Selftune{DIGEST}"])
@pytest.mark.parametrize("argument", ["--image", "--postgresql-image", "--gateway-image"])
def test_production_takes_digests_alone(refused, argument, image):
    (line,) = refused(ON_CPUS, *PRODUCTION, *TO_ACME, argument, image)
    assert line.startswith(f"{argument}: the overlay production takes an image by its digest, NAME@sha256:...")
    assert repr(image) in line


REFUSALS = {
    "overlay for GPUs": (ON_CPUS, ("--overlay", "gpu"), "--overlay: gpu is for studies that train on GPUs"),
    "no GPUs": (ON_GPUS, SMALL, "--overlay: cpu-small has no GPUs"),
    "no address of the API": (ON_GPUS, SPOT[:2], "--api-server: is needed by the overlay gpu-spot: an address"),
    "address of the API": (ON_CPUS, (*SMALL, *SPOT[2:]), "--api-server: is of no use with the overlay cpu-small"),
    "host": (ON_CPUS, (*SMALL, "--host", "a.org"), "--host: is of no use with the overlay cpu-small"),
    "spot in a queue": (ON_GPUS, (*SPOT, "--queue", "a"), "--queue: Kueue gives room to clusters of a fixed size"),
    "schedule in a queue": (
        ON_CPUS,
        (*SMALL, "--queue", "a", "--schedule", "0 2 * * *"),
        "--queue: KubeRay gives the jobs of a schedule no labels",
    ),
    "schedule of a gang": (
        ON_CPUS,
        (*SMALL, "--gang", "a", "--schedule", "0 2 * * *"),
        "--gang: KubeRay gives the jobs of a schedule no labels",
    ),
    "gang in a queue": (ON_CPUS, (*SMALL, "--gang", "a", "--queue", "b"), "--gang: Kueue starts all pods"),
    "interactive schedule": (
        ON_CPUS,
        (*SMALL, "--interactive", "--schedule", "0 2 * * *"),
        "--interactive: makes a cluster without a job",
    ),
    "schedule": (ON_CPUS, (*SMALL, "--schedule", "daily"), "--schedule: must be five fields of cron"),
    "hour": (ON_CPUS, (*SMALL, "--schedule", "0 24 * * *"), "--schedule: must be five fields of cron"),
    "name": (ON_CPUS, (*SMALL, "--name", "Digits"), "--name: must be up to 40 small letters"),
    "long name": (ON_CPUS, (*SMALL, "--name", 41 * "a"), "--name: must be up to 40 small letters"),
    "long name of a schedule": (
        ON_CPUS,
        (*SMALL, "--schedule", "0 2 * * *", "--name", 37 * "a"),
        "--name: must be up to 36 small letters",
    ),
    "study's name": (ON_CPUS.replace("study: digits", "study: 2nd"), SMALL, "study: '2nd' makes no name"),
    "namespace": (ON_CPUS, (*SMALL, "--namespace", "a b"), "--namespace: must be up to 63 small letters"),
    "image": (ON_CPUS, (*SMALL, "--image", "a b"), "--image: must be a reference to an image"),
    "bucket": (
        ON_CPUS,
        (*SMALL, "--output-address", "s3://acme/a"),
        "--output-address: the object store of cpu-small",
    ),
    "bucket alone": (
        ON_CPUS,
        (*SMALL, "--output-address", "s3://selftune"),
        "--output-address: must name a folder",
    ),
    "other store": (
        ON_CPUS,
        (*SMALL, "--output-address", "gs://a/b"),
        "--output-address: must be an address such as",
    ),
    "credentials": (ON_CPUS, (*SMALL, "--output-address", "s3://a:b@c/d"), "--output-address: must be an address"),
    "shell": (
        ON_CPUS,
        (*SMALL, "--output-address", "s3://selftune/$(id)"),
        "--output-address: the path must be of",
    ),
    "volume and address": (
        ON_CPUS,
        (*SMALL, "--volume", "a", "--output-address", "s3://selftune/a"),
        "--output-address: the results go to the volume",
    ),
    "network": (ON_GPUS, (*SPOT[:2], "--api-server", "api.example.org"), "--api-server: must be a network"),
    "network without bits": (
        ON_GPUS,
        (*SPOT[:2], "--api-server", "192.0.2.1"),
        "--api-server: must say how many bits",
    ),
    "trials of a study": (ON_CPUS, (*SMALL, "--concurrent", "2"), "--concurrent: is for studies with a section"),
    "endpoint": (
        ON_CPUS,
        (*PRODUCTION, *TO_ACME, "--s3-endpoint", "http://s3.example.org"),
        "--s3-endpoint: must be an address such as https://",
    ),
    "endpoint's port": (
        ON_CPUS,
        (*PRODUCTION, *TO_ACME, "--s3-endpoint", "https://s3.example.org:9000"),
        "--s3-endpoint: must listen on port 443",
    ),
    "nowhere to": (ON_CPUS, PRODUCTION, "--output-address: is needed by the overlay production"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_wrong_is_refused_in_a_sentence(refused, name):
    text, arguments, start = REFUSALS[name]
    (line,) = refused(text, *arguments)
    assert line.startswith(start)


def test_every_mistake_of_a_request_has_its_line(refused):
    lines = refused(ON_CPUS, "--overlay", "production", "--namespace", "A")
    assert len(lines) == len({line.partition(":")[0] for line in lines}) == 8


def test_mistakes_in_the_study_are_those_of_check(refused):
    (line,) = refused(ON_CPUS.replace("rate", "rat"), *SMALL)
    assert "regularizers.dropout.rat" in line
    (line,) = refused(SWEEP.replace("trials: 12", "trials: 0"), *SMALL)
    assert "sweep.trials" in line


def test_a_machine_without_kubectl_is_told_what_to_install(refused, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    (line,) = refused(ON_CPUS, *SMALL)
    assert line.startswith("kubectl: is not installed, or not on PATH; install version 1.27 or newer")


def test_a_kubectl_that_fails_says_why(refused, tmp_path, monkeypatch):
    fake = tmp_path / "kubectl"
    fake.write_text('#!/bin/sh\necho "error: unknown command \\"kustomize\\"" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (line,) = refused(ON_CPUS, *SMALL)
    assert line == (
        'kubectl: `kubectl kustomize` failed: error: unknown command "kustomize"; version 1.27 or newer is needed'
    )
