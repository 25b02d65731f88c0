"""Kustomize base, components and overlays of a study on Kubernetes, which ``selftune render`` builds upon."""
