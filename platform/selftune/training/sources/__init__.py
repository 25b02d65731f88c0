"""Where batches come from: tensors in memory, data sets whose indices are drawn here, ready loaders."""
