"""What is rendered fits the schemas of Kubernetes, of three minor versions, and of KubeRay."""

import kubernetes_validate
import pytest
from pod_templates import OF_KUBERAY, pod_templates
from resource_definitions import FOLDER, mistakes
from studies_to_render import ON_CPUS

VERSIONS = ("1.31", "1.34", "1.37")
CASES = {"cpu-small": (ON_CPUS, "--overlay", "cpu-small")}
IS_CUSTOM = {"ray.io", "kueue.x-k8s.io"}


@pytest.fixture(params=CASES)
def manifests(request, rendered):
    return rendered(*CASES[request.param])


def is_custom(manifest):
    return manifest["apiVersion"].partition("/")[0] in IS_CUSTOM


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_everything_that_is_its_own(manifests, version):
    own = [one for one in manifests if not is_custom(one)]
    assert len(own) > 10
    for one in own:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_pod_that_kuberay_makes(manifests, version):
    for _, template in pod_templates(one for one in manifests if one["kind"] in OF_KUBERAY):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "of-a-template"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared with KubeRay's definitions is not there")
def test_kuberay_takes_its_own(manifests):
    own = [one for one in manifests if is_custom(one)]
    assert own
    assert {one["metadata"]["name"]: mistakes(one) for one in own} == {one["metadata"]["name"]: [] for one in own}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared with KubeRay's definitions is not there")
def test_a_key_that_kuberay_does_not_know_is_noticed(rendered):
    (job,) = (one for one in rendered(ON_CPUS, "--overlay", "cpu-small") if one["kind"] == "RayJob")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    wrong = {**job["spec"]["rayClusterSpec"], "headGroupSpec": {**head, "pods": 1}}
    assert len(mistakes({**job, "spec": {**job["spec"], "rayClusterSpec": wrong}})) == 1
