"""Weights, rank, sparsity, quantisation, gradient aggregation, and architecture search."""
