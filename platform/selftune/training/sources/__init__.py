"""Where batches come from: tensors in memory, data sets whose indices are drawn here, ready loaders."""

from selftune.training.sources.batch_source import BatchSource
from selftune.training.sources.memory import MemorySource
from selftune.training.sources.sources import Sources, sources_of

__all__ = ["BatchSource", "MemorySource", "Sources", "sources_of"]
