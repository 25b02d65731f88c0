"""Every pod keeps to Pod Security `restricted`, and to the stricter rules of this project."""

import copy

import pytest
from restricted import container_violations, containers, house_violations, resource_violations, violations
from studies_to_render import CASES

from selftune.kubernetes.pods import pod_templates, ray_cluster

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def test_pods_are_restricted(manifests):
    templates = [*pod_templates(manifests)]
    assert len(templates) >= 5
    for name, template in templates:
        spec = template["spec"]
        assert [*violations(spec), *house_violations(spec)] == [], name


def test_the_namespace_enforces_it(manifests):
    (namespace,) = (one for one in manifests if one["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"].get("namespace", namespace["metadata"]["name"]) for one in manifests} == {
        namespace["metadata"]["name"]
    }


def test_what_kuberay_adds_to_pods_is_restricted(manifests):
    """The autoscaler's container has its own settings, and init containers those of the first container."""
    for cluster in filter(None, map(ray_cluster, manifests)):
        if cluster["enableInTreeAutoscaling"]:
            head = cluster["headGroupSpec"]["template"]["spec"]["securityContext"]
            options = cluster["autoscalerOptions"]
            assert [*container_violations("autoscaler", options["securityContext"], head)] == []
            assert [*resource_violations("autoscaler", options["resources"])] == []
            assert options["securityContext"]["readOnlyRootFilesystem"] is True
        # of the two ways of a job to its head, KubeRay's sidecar has no security context
        assert "submitterPodTemplate" not in cluster


def test_only_the_autoscaler_has_a_token_of_the_api(manifests):
    for name, template in pod_templates(manifests):
        spec = template["spec"]
        projected = (
            [v["name"] for v in spec["volumes"] if "serviceAccountToken" in str(v)] if "volumes" in spec else []
        )
        mounted = [m["mountPath"] for one in containers(spec) for m in one.get("volumeMounts", ())]
        assert TOKEN not in mounted, name
        if not projected:
            assert "serviceAccountName" not in spec, name
            continue
        (cluster,) = filter(None, map(ray_cluster, manifests))
        assert cluster["enableInTreeAutoscaling"]
        assert name.endswith("head")
        mounts = {m["name"]: m["mountPath"] for m in cluster["autoscalerOptions"]["volumeMounts"]}
        assert mounts[projected[0]] == TOKEN
        (account,) = (one for one in manifests if one["kind"] == "ServiceAccount")
        assert spec["serviceAccountName"] == account["metadata"]["name"]
        assert account["automountServiceAccountToken"] is False
    assert not [
        one for one in manifests if one["kind"] in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    ]


def weakened(change):
    def made(spec):
        weak = copy.deepcopy(spec)
        change(weak, weak["containers"][0])
        return weak

    return made


WEAK = {
    "root": lambda pod, one: pod["securityContext"].update(runAsNonRoot=False),
    "capabilities": lambda pod, one: one["securityContext"].pop("capabilities"),
    "escalation": lambda pod, one: one["securityContext"].pop("allowPrivilegeEscalation"),
    "seccomp": lambda pod, one: pod["securityContext"].pop("seccompProfile"),
    "host path": lambda pod, one: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    "host network": lambda pod, one: pod.update(hostNetwork=True),
    "writable root": lambda pod, one: one["securityContext"].pop("readOnlyRootFilesystem"),
    "token": lambda pod, one: pod.pop("automountServiceAccountToken"),
    "no limit": lambda pod, one: one["resources"].pop("limits"),
    "init container": lambda pod, one: pod.update(
        initContainers=[{"name": "init", "resources": one["resources"]}]
    ),
    "endless disk": lambda pod, one: pod["volumes"].append({"name": "endless", "emptyDir": {}}),
}


@pytest.mark.parametrize("name", WEAK)
def test_a_weakness_is_noticed(rendered, name):
    _, template = next(pod_templates(rendered(*CASES["production"])))
    weak = weakened(WEAK[name])(template["spec"])
    assert [*violations(weak), *house_violations(weak)]
