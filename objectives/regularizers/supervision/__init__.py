"""Noisy labels, soft targets, distillation, mixing, noise, self-training, and the classical regularizers."""
