"""Finding things in manifests."""

from selftune.kubernetes.pods import ray_cluster


def one(manifests, kind, name=None):
    """The one manifest of a kind, or of a kind and name."""
    (found,) = (m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"]))
    return found


def workers(manifests):
    """The worker group of a study's cluster."""
    (cluster,) = filter(None, map(ray_cluster, manifests))
    (group,) = cluster["workerGroupSpecs"]
    return group


def command(manifests):
    """What a study's job does."""
    return one(manifests, "RayJob")["spec"]["entrypoint"]
