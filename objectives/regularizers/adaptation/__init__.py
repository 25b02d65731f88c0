"""Preference optimisation, flat minima, equivariance, domain generalisation, and continual learning."""
