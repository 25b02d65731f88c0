"""How a study gets to its pods, and what its job does there."""

import re
import subprocess
from base64 import b64decode

import pytest
import yaml
from manifests_in import command, one
from studies_to_render import CASES, ON_CPUS

from selftune.cli import main
from selftune.kubernetes.pods import ray_cluster

SMALL = ("--overlay", "cpu-small")


def test_the_study_travels_as_it_is(rendered):
    manifests = rendered(*CASES["cpu-small"])
    assert one(manifests, "ConfigMap", "digits")["data"] == {"study.yaml": ON_CPUS}
    head = ray_cluster(one(manifests, "RayJob"))["headGroupSpec"]["template"]["spec"]
    (mount,) = (m for m in head["containers"][0]["volumeMounts"] if m["name"] == "study")
    assert f"{mount['mountPath']}/study.yaml" in command(manifests)


def test_the_command_waits_for_the_workers_and_goes_on(rendered):
    assert command(rendered(*CASES["cpu-small"])) == (
        "python -m selftune.kubernetes.wait_for_workers 2 && selftune run /etc/selftune/study/study.yaml"
        " --output s3://selftune/digits --restart --grace 60"
    )
    assert "--output s3://acme/studies/digits " in command(rendered(*CASES["production"]))
    assert "--output /results/digits " in command(rendered(*CASES["on a volume"]))


def test_seed_and_steps_are_in_the_study_that_travels(rendered):
    manifests = rendered(ON_CPUS, *SMALL, "--seed", "7", "--steps", "500")
    study = yaml.safe_load(one(manifests, "ConfigMap", "digits")["data"]["study.yaml"])
    assert (study["seed"], study["budget"]) == (7, {"steps": 500})


def test_a_schedule_makes_a_folder_each_time(rendered):
    manifests = rendered(*CASES["nightly"])
    assert not [m for m in manifests if m["kind"] == "RayJob"]
    nightly = one(manifests, "RayCronJob")
    assert nightly["metadata"]["name"] == "digits-sweep"
    assert nightly["spec"]["schedule"] == "0 2 * * *"
    assert (
        "--output s3://selftune/digits-sweep/${RAY_CLUSTER_NAME%-*} "
        in nightly["spec"]["jobTemplate"]["entrypoint"]
    )


def test_the_folder_of_a_schedule_is_that_of_its_job(rendered):
    """As the shell of a job reads it, in a cluster that KubeRay named."""
    entrypoint = one(rendered(*CASES["nightly"]), "RayCronJob")["spec"]["jobTemplate"]["entrypoint"]
    output = re.search(r"--output (\S+)", entrypoint)[1]
    said = subprocess.run(
        ["sh", "-c", f"echo {output}"],
        env={"RAY_CLUSTER_NAME": "digits-sweep-29432160-x7k2p"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "s3://selftune/digits-sweep/digits-sweep-29432160\n"


TABLE = """\
study: houses
objective: {task: table, dataset: data/houses.csv, target: price}
regularizers: {weight_decay: {strength: {start: 1.0e-4}}}
budget: {steps: 300}
"""


@pytest.fixture
def houses(tmp_path, monkeypatch):
    """A function that writes a table of so many rows where the study finds it, and renders the study."""

    def render(rows):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir(exist_ok=True)
        lines = [f"{number % 90},{number % 7},{number % 11}" for number in range(rows)]
        (tmp_path / "data" / "houses.csv").write_text("\n".join(["area,rooms,price", *lines]) + "\n")
        (tmp_path / "study.yaml").write_text(TABLE)
        return main(["render", "study.yaml", *SMALL, "--output", "out.yaml"])

    return render


def test_small_data_travel_with_the_study_to_every_pod(houses, tmp_path):
    assert houses(300) == 0
    manifests = [*yaml.safe_load_all((tmp_path / "out.yaml").read_text())]
    content = one(manifests, "ConfigMap", "houses")
    assert b64decode(content["binaryData"]["file-0"]) == (tmp_path / "data" / "houses.csv").read_bytes()
    cluster = ray_cluster(one(manifests, "RayJob"))
    for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
        (volume,) = (v for v in template["spec"]["volumes"] if v["name"] == "study")
        assert volume["configMap"] == {
            "name": "houses",
            "items": [{"key": "study.yaml", "path": "study.yaml"}, {"key": "file-0", "path": "data/houses.csv"}],
        }
        assert {"name": "PYTHONPATH", "value": "/etc/selftune/study"} in template["spec"]["containers"][0]["env"]
    assert " && cd /etc/selftune/study && selftune run /etc/selftune/study/study.yaml " in command(manifests)


def test_large_data_are_refused(houses, tmp_path, capsys):
    assert houses(40_000) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r"study.yaml: \d+ KiB would travel in a ConfigMap, of which data/houses.csv has \d+ KiB,", line
    )
    assert not (tmp_path / "out.yaml").exists()
