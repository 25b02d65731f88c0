"""Manifests of a study for Kubernetes, and what runs in their pods beside it."""
