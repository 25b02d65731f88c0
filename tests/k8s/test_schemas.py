"""What is rendered fits the schemas of Kubernetes, of three minor versions, of KubeRay and of Kueue."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from resource_definitions import FOLDER, mistakes
from studies_to_render import CASES

from selftune.kubernetes.pods import pod_templates, ray_cluster

FULL = pytest.mark.full
VERSIONS = (pytest.param("1.31", marks=FULL), pytest.param("1.34", marks=FULL), "1.37")
CUSTOM = {"ray.io", "kueue.x-k8s.io"}
QUEUES = Path(__file__).parents[2] / "k8s" / "kueue" / "queues.yaml"
with_definitions = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the definitions of KubeRay and Kueue are not in ../shared/data"
)


def is_custom(manifest):
    return manifest["apiVersion"].partition("/")[0] in CUSTOM


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_everything_that_is_its_own(manifests, version):
    own = [one for one in manifests if not is_custom(one)]
    assert len(own) > 10
    for one in own:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_pod_that_kuberay_makes(manifests, version):
    for _, template in pod_templates(one for one in manifests if ray_cluster(one)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "of-a-template"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)


@with_definitions
def test_kuberay_takes_its_own(manifests):
    (own,) = (one for one in manifests if is_custom(one))
    assert mistakes(own) == []


@with_definitions
def test_kueue_takes_the_queues_of_the_example():
    queues = [*yaml.safe_load_all(QUEUES.read_text())]
    assert {one["kind"] for one in queues} == {"ResourceFlavor", "ClusterQueue", "LocalQueue"}
    assert [mistakes(one) for one in queues] == [[], [], []]


@with_definitions
def test_a_key_that_kuberay_does_not_know_is_noticed(rendered):
    (job,) = (one for one in rendered(*CASES["cpu-small"]) if one["kind"] == "RayJob")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    wrong = {**job["spec"]["rayClusterSpec"], "headGroupSpec": {**head, "pods": 1}}
    assert len(mistakes({**job, "spec": {**job["spec"], "rayClusterSpec": wrong}})) == 1
