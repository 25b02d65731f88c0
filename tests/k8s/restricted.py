"""The rules of Pod Security `restricted`, and those of this project that are stricter."""

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def containers(spec):
    return [*spec.get("initContainers", ()), *spec["containers"]]


def violations(spec):
    """What Kubernetes would refuse of a pod in a namespace that enforces `restricted`."""
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"
    for volume in spec.get("volumes", ()):
        if kinds := {*volume} - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is of the kind {kinds}"
    if pod.get("sysctls") or pod.get("runAsUser") == 0:
        yield "the pod sets sysctls, or runs as root"
    for one in containers(spec):
        yield from container_violations(one["name"], one.get("securityContext", {}), pod)
        if any("hostPort" in port for port in one.get("ports", ())):
            yield f"{one['name']}: has a port of the host"


def container_violations(name, own, pod):
    if own.get("privileged") or own.get("procMount", "Default") != "Default":
        yield f"{name}: is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: may escalate privileges"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()) or {*capabilities.get("add", ())} - {"NET_BIND_SERVICE"}:
        yield f"{name}: keeps capabilities"
    if not own.get("runAsNonRoot", pod.get("runAsNonRoot")) or own.get("runAsUser") == 0:
        yield f"{name}: may run as root"
    profile = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield f"{name}: has no seccomp profile"


def house_violations(spec):
    """What this project asks of a pod beside that."""
    if spec.get("automountServiceAccountToken") is not False:
        yield "a token of the Kubernetes API is mounted"
    if not isinstance(spec.get("securityContext", {}).get("runAsUser"), int):
        yield "no user is named: Kubernetes cannot tell that an image's user by name is not root"
    for volume in spec.get("volumes", ()):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} may fill the disk of its node"
    for one in containers(spec):
        if one.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{one['name']}: may write to its root file system"
        yield from resource_violations(one["name"], one.get("resources", {}))


def resource_violations(name, resources):
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for kind in ("cpu", "memory", "ephemeral-storage"):
        if kind not in requests or kind not in limits:
            yield f"{name}: says no {kind}"
    if requests.get("memory") != limits.get("memory"):
        yield f"{name}: may be ended when its node is full, since it may use more memory than it asks for"
