"""What manifests refer to is there: images, config maps, claims, classes, pods; secrets by reference only."""

import re
from pathlib import Path

from restricted import containers

from selftune.kubernetes.pods import pod_templates, ray_cluster
from selftune.kubernetes.selectors import selects

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
THEIRS = {"kube-root-ca.crt"}  # Kubernetes puts it into every namespace


def named(manifests, kind):
    return {one["metadata"]["name"] for one in manifests if one["kind"] == kind}


def mentions(value, key):
    """Every value of a key, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from mentions(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from mentions(inner, key)


def secrets(manifests):
    for reference in [*mentions(manifests, "secretRef"), *mentions(manifests, "secretKeyRef")]:
        yield reference["name"]
    yield from mentions(manifests, "secretName")


def test_secrets_are_referred_to_alone(manifests):
    assert not named(manifests, "Secret")
    for name, template in pod_templates(manifests):
        for one in containers(template["spec"]):
            for variable in one.get("env", ()):
                if SECRET.search(variable["name"]):
                    assert {*variable} == {"name", "valueFrom"}, (name, variable["name"])
            words = " ".join(map(str, [*one.get("command", ()), *one.get("args", ())]))
            assert not re.search(r"://[^/\s]*:[^/\s]*@", words), "an address with a password"
    for one in manifests:
        if one["kind"] == "ConfigMap":
            assert not [key for key in one["data"] if SECRET.search(key)]


def test_the_page_names_every_secret(manifests):
    assert {f"`{name}`" for name in secrets(manifests)} <= {
        *re.findall(r"`selftune-[a-z0-9-]+`", PAGE.read_text())
    }


def test_config_maps_classes_and_accounts_are_there(manifests):
    templates = [template["spec"] for _, template in pod_templates(manifests)]
    maps = {one["name"] for one in [*mentions(templates, "configMap"), *mentions(templates, "configMapRef")]}
    assert maps - THEIRS <= named(manifests, "ConfigMap")
    assert {*mentions(templates, "priorityClassName")} <= named(manifests, "PriorityClass")
    assert all("priorityClassName" in one for one in templates)
    for spec in templates:
        volumes = {one["name"] for one in spec.get("volumes", ())}
        claimed = {"data"} if "StatefulSet" in str(manifests) else set()
        mounted = {m["name"] for one in containers(spec) for m in one.get("volumeMounts", ())}
        assert volumes <= mounted | {"api-token"}
        assert mounted <= volumes | claimed


def test_selectors_find_the_pods_that_they_are_about(manifests):
    labels = [template["metadata"]["labels"] for _, template in pod_templates(manifests)]
    for one in manifests:
        spec = one.get("spec", {})
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] not in ("default-deny", "dns"):
            selector = spec["podSelector"]
            assert selector
        elif one["kind"] == "PodDisruptionBudget":
            selector = spec["selector"]
        elif one["kind"] == "Service":
            selector = {"matchLabels": spec["selector"]}
        else:
            continue
        assert any(selects(selector, found) for found in labels), (one["kind"], one["metadata"]["name"])


def test_workers_and_servers_are_spread_over_nodes(manifests):
    for name, template in pod_templates(manifests):
        labels, spec = template["metadata"]["labels"], template["spec"]
        if labels["app.kubernetes.io/component"] in ("ray-worker", "mlflow", "gateway"):
            (one,) = spec["topologySpreadConstraints"]
            assert one["topologyKey"] == "kubernetes.io/hostname"
            assert selects(one["labelSelector"], labels), name


def test_budgets_of_pods_that_custom_resources_own_say_how_many_stay(manifests):
    """Kubernetes cannot tell how many there should be, so a share, or how many may go, is an error there."""
    (cluster,) = filter(None, map(ray_cluster, manifests))
    budgets = {
        one["metadata"]["name"].rpartition("-")[2]: one
        for one in manifests
        if one["kind"] == "PodDisruptionBudget"
    }
    (group,) = cluster["workerGroupSpecs"]
    assert budgets["head"]["spec"]["minAvailable"] == 1
    assert budgets["workers"]["spec"]["minAvailable"] == group["replicas"] - 1
    assert all("maxUnavailable" not in budgets[name]["spec"] for name in ("head", "workers"))


def test_images_of_production_are_digests(manifests):
    images = [one["image"] for _, template in pod_templates(manifests) for one in containers(template["spec"])]
    if "gateway" in named(manifests, "Deployment"):
        assert all(re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", image) for image in images)
    else:
        assert all(re.fullmatch(r"[^@]+:[^:@]+", image) and not image.endswith(":latest") for image in images)
