"""Comparisons: one study under several methods of tuning, each as a sweep of its own, at the same budget."""
