"""Measurements of training and label-free criteria of selection."""
