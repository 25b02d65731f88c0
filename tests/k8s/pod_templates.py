"""Every pod that manifests make, whoever makes it."""

OF_KUBERAY = {"RayJob", "RayCluster", "RayCronJob"}


def pod_templates(manifests):
    """The pod templates of manifests, by name."""
    for one in manifests:
        name, spec = f"{one['kind']} {one['metadata']['name']}", one.get("spec", {})
        if one["kind"] in OF_KUBERAY:
            cluster = ray_cluster(one)
            yield f"{name}, head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name}, {group['groupName']}", group["template"]
        elif "template" in spec:
            yield name, spec["template"]


def ray_cluster(one):
    """The Ray cluster within a resource of KubeRay's."""
    spec = one["spec"]
    return spec.get("jobTemplate", spec).get("rayClusterSpec", spec)
