"""What the overlay production asks for beside the study: an object store of one's own, and a name with TLS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from selftune.kubernetes.patches import Patch, added, patch, reach_outside

_SERVER = "/spec/template/spec/containers/0"


@dataclass(frozen=True)
class Production:
    """Addresses, and names of secrets.

    Args:
        host: by which browsers call MLflow and the dashboards.
        artifacts: where MLflow keeps files, such as ``s3://bucket/mlflow``.
        networks: where the object store is, as CIDR.
        region: of the object store.
        endpoint: of an object store that is not AWS'.
        tls_secret: the secret with the host's certificate and key.
        login_secret: the secret with the file ``htpasswd`` of MLflow's users.
        cluster_domain: of the cluster's DNS.
    """

    host: str
    artifacts: str
    networks: tuple[str, ...]
    region: str = "us-east-1"
    endpoint: str | None = None
    tls_secret: str = "selftune-tls"
    login_secret: str = "selftune-login"
    cluster_domain: str = "cluster.local"

    def patches(self) -> Iterator[Patch]:
        """What they change in the overlay."""
        yield reach_outside("external-s3", self.networks)
        yield patch("ConfigMap", "object-store", ("/data/AWS_DEFAULT_REGION", self.region))
        if self.endpoint:
            yield added("ConfigMap", "object-store", ("/data/AWS_ENDPOINT_URL", self.endpoint))
        yield patch(
            "Deployment",
            "mlflow",
            (f"{_SERVER}/command/6", f"--artifacts-destination={self.artifacts}"),
            (f"{_SERVER}/command/9", f"--cors-allowed-origins=https://{self.host}"),
        )
        yield patch(
            "Deployment",
            "gateway",
            (f"{_SERVER}/env/0/value", self.host),
            (f"{_SERVER}/env/1/value", self.cluster_domain),
            ("/spec/template/spec/volumes/3/secret/secretName", self.tls_secret),
            ("/spec/template/spec/volumes/4/secret/secretName", self.login_secret),
        )
