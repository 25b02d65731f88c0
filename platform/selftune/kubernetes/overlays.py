"""The overlays of the folder ``k8s``, and which arguments belong to which."""

from __future__ import annotations

OVERLAYS = ("cpu-small", "gpu", "gpu-spot", "production")
PARTS = ("all", "platform", "study")

ONLY_OF = {
    "api_server": "gpu-spot",
    "gateway_image": "production",
    "s3_cidr": "production",
    "s3_endpoint": "production",
    "s3_region": "production",
    "mlflow_artifacts": "production",
    "host": "production",
    "tls_secret": "production",
    "login_secret": "production",
    "cluster_domain": "production",
}
"""Arguments that only one overlay has a use for."""

NEEDED = {
    "gpu-spot": {
        "api_server": "an address of the Kubernetes API (`kubectl get endpointslices kubernetes` prints them)"
    },
    "production": {
        "image": "selftune's image by its digest, NAME@sha256:...",
        "postgresql_image": "PostgreSQL's image by its digest, NAME@sha256:...",
        "gateway_image": "the image of nginx, unprivileged, by its digest, NAME@sha256:...",
        "s3_cidr": "a network in which the object store is, such as 203.0.113.0/24",
        "mlflow_artifacts": "where MLflow keeps files, s3://BUCKET/PATH",
        "host": "the name by which browsers call MLflow and the dashboards",
    },
}
"""Arguments that an overlay cannot do without."""
