"""Every regularizer of the catalogue: one folder per family, one file per method."""
