"""Priors of inverse problems, optimal transport, and convolutions as operators."""
