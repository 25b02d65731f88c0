"""`selftune render` writes what follows from study and arguments, and refuses what is wrong in a sentence."""

import re
from base64 import b64decode

import pytest
import yaml
from studies_to_render import CASES, DIGEST, ON_CPUS, ON_GPUS, PRODUCTION, SPOT, SWEEP, TO_ACME

import selftune
from selftune.cli import main
from selftune.kubernetes.pods import ray_cluster

SMALL = ("--overlay", "cpu-small")


def one(manifests, kind, name=None):
    (found,) = (m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"]))
    return found


def workers(manifests):
    (cluster,) = filter(None, map(ray_cluster, manifests))
    (group,) = cluster["workerGroupSpecs"]
    return group


def command(manifests):
    return one(manifests, "RayJob")["spec"]["entrypoint"]


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


def test_workers_have_room_for_the_trainers(rendered):
    group = workers(rendered(*CASES["cpu-small"]))
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"] == "4"
    group = workers(rendered(*CASES["gpu"]))
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert group["replicas"] == 3
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
    assert resources["limits"]["memory"] == "32Gi"


def test_a_sweep_has_room_for_several_trials(rendered):
    assert workers(rendered(SWEEP, *SMALL))["replicas"] == 1  # four trials of one CPU
    assert workers(rendered(SWEEP, *SMALL, "--concurrent", "9"))["replicas"] == 3
    assert workers(rendered(SWEEP.replace("trials: 12", "trials: 12, concurrent: 8"), *SMALL))["replicas"] == 2


def test_memory_is_what_was_said(rendered):
    template = workers(rendered(ON_CPUS, *SMALL, "--memory", "9"))["template"]["spec"]
    assert template["containers"][0]["resources"]["limits"]["memory"] == "9Gi"
    (shared,) = (v for v in template["volumes"] if v["name"] == "shared-mem")
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}


def test_on_spot_machines_the_cluster_grows_and_shrinks(rendered):
    manifests = rendered(*CASES["gpu-spot"])
    cluster = ray_cluster(one(manifests, "RayJob"))
    group = workers(manifests)
    assert cluster["enableInTreeAutoscaling"] is True
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (0, 3, 3)
    # autoscaler v2 asks for it, for heads and workers
    assert {
        cluster["headGroupSpec"]["template"]["spec"]["restartPolicy"],
        group["template"]["spec"]["restartPolicy"],
    } == {"Never"}
    assert one(manifests, "RayJob")["spec"]["backoffLimit"] == 20


def test_times_to_the_end_fit_into_each_other(manifests):
    """The driver's grace within the hook that waits for it, that within the pod's; workers outlive the driver."""
    (cluster,) = filter(None, map(ray_cluster, manifests))
    head = cluster["headGroupSpec"]["template"]["spec"]
    waits = float(head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    worker = workers(manifests)["template"]["spec"]
    outlives = float(worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert waits + 10 < head["terminationGracePeriodSeconds"]
    assert outlives < worker["terminationGracePeriodSeconds"]
    for job in (m for m in manifests if m["kind"] == "RayJob"):
        assert float(re.search(r"--grace (\d+)", job["spec"]["entrypoint"])[1]) < waits


def test_a_job_is_what_kuberay_takes(manifests):
    (cluster,) = filter(None, map(ray_cluster, manifests))
    assert cluster["authOptions"] == {"mode": "token"}
    for found in (m["spec"] for m in manifests if m["kind"] in ("RayJob", "RayCronJob")):
        job = found.get("jobTemplate", found)
        assert job["submissionMode"] == "HTTPMode"
        assert job["shutdownAfterJobFinishes"] is True
        assert "clusterSelector" not in job
        assert "submitterPodTemplate" not in job


def test_a_queue_of_kueues_gets_the_job_suspended(rendered):
    job = one(rendered(*CASES["in a queue"]), "RayJob")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert job["spec"]["suspend"] is True
    cluster = one(rendered(*CASES["interactive in a queue"]), "RayCluster")
    assert cluster["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert cluster["spec"]["suspend"] is True


def test_a_gang_is_volcanos(rendered):
    assert one(rendered(*CASES["gang"]), "RayJob")["metadata"]["labels"]["volcano.sh/queue-name"] == "team-a"


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
    import subprocess

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


def test_an_interactive_cluster_has_no_job(rendered):
    manifests = rendered(*CASES["interactive"])
    assert not [m for m in manifests if m["kind"] in ("RayJob", "RayCronJob")]
    assert one(manifests, "RayCluster")["metadata"]["name"] == "digits"


def test_a_volume_is_in_every_pod_of_the_cluster(rendered):
    for case in ("on a volume", "nightly on spot", "interactive on spot"):
        (cluster,) = filter(None, map(ray_cluster, rendered(*CASES[case])))
        for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
            (volume,) = (v for v in template["spec"]["volumes"] if v["name"] == "results")
            assert volume["persistentVolumeClaim"]["claimName"] == "shared"
            mounts = {m["name"]: m["mountPath"] for m in template["spec"]["containers"][0]["volumeMounts"]}
            assert mounts["results"] == "/results"


def test_names_and_namespace_are_everywhere(rendered):
    manifests = rendered(*CASES["named"])
    assert one(manifests, "Namespace")["metadata"]["name"] == "research"
    of_the_study = {
        (m["kind"], m["metadata"]["name"])
        for m in manifests
        if m["metadata"]["labels"].get("app.kubernetes.io/instance") == "other"
    }
    assert of_the_study == {
        ("RayJob", "other"),
        ("ConfigMap", "other"),
        ("NetworkPolicy", "other-ray"),
        ("NetworkPolicy", "other-head"),
        ("PodDisruptionBudget", "other-head"),
        ("PodDisruptionBudget", "other-workers"),
    }
    text = yaml.safe_dump_all(m for m in manifests if m["kind"] != "ConfigMap")
    assert "instance: study" not in text
    assert "name: study-" not in text


def test_the_parts_are_the_whole(rendered):
    every = rendered(*CASES["cpu-small"])
    platform, study = (rendered(ON_CPUS, *SMALL, "--part", part) for part in ("platform", "study"))
    key = lambda m: (m["kind"], m["metadata"]["name"])  # noqa: E731
    assert sorted(map(key, platform + study)) == sorted(map(key, every))
    assert {m["kind"] for m in study} == {"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "RayJob"}


def test_production_is_what_was_said(rendered):
    manifests = rendered(*CASES["production on GPUs"])
    store = one(manifests, "ConfigMap", "object-store")["data"]
    assert store == {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "https://s3.example.org"}
    server = one(manifests, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]
    assert "--artifacts-destination=s3://acme/mlflow" in server["command"]
    assert "--cors-allowed-origins=https://selftune.example.org" in server["command"]
    gateway = one(manifests, "Deployment", "gateway")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "GATEWAY_HOST", "value": "selftune.example.org"} in gateway["env"]
    assert workers(manifests)["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_placeholders_of_the_base_are_replaced(manifests):
    text = yaml.safe_dump_all(manifests)
    assert "192.0.2.1/" not in text
    assert "192.0.2.2/" not in text
    assert "gateway.invalid" not in text
    assert "image: selftune\n" not in text


def images(manifests):
    (cluster,) = filter(None, map(ray_cluster, manifests))
    study = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    server = one(manifests, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]["image"]
    return study, server


def test_mlflows_server_keeps_its_image_whatever_studies_need(rendered):
    version = selftune.__version__
    assert images(rendered(*CASES["gpu"])) == (f"selftune:{version}-cuda", f"selftune:{version}-cpu")
    assert images(rendered(ON_GPUS, "--overlay", "gpu", "--image", "r/s:1")) == ("r/s:1", "r/s:1")
    both = ("--image", "r:5000/s", "--server-image", "r/s:2")
    assert images(rendered(ON_GPUS, "--overlay", "gpu", *both)) == ("r:5000/s", "r/s:2")


def test_workers_have_no_credentials(manifests):
    template = workers(manifests)["template"]["spec"]
    assert "envFrom" not in template["containers"][0]
    assert "secret" not in yaml.safe_dump(template).lower()


def test_manifests_go_to_the_terminal(tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text(ON_CPUS)
    assert main(["render", str(study), *SMALL, "--part", "study"]) == 0
    assert one([*yaml.safe_load_all(capsys.readouterr().out)], "RayJob")


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
