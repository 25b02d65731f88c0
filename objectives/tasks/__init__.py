"""Packaged objectives: one file each."""
