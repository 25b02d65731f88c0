"""What `selftune render` writes follows from the study and the arguments."""

import re
from importlib.metadata import version

import yaml
from manifests_in import one, workers
from studies_to_render import CASES, ON_CPUS, ON_GPUS, SWEEP

import selftune
from selftune.cli import main
from selftune.kubernetes.pods import ray_cluster

SMALL = ("--overlay", "cpu-small")


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
    assert cluster["rayVersion"].split(".")[:2] == version("ray").split(".")[:2]
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
    own = selftune.__version__
    assert images(rendered(*CASES["gpu"])) == (f"selftune:{own}-cuda", f"selftune:{own}-cpu")
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
