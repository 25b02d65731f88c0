"""Hypergradient estimators: how a network is trained, and what a trainer measures for a hyper-step."""
