import pytest
from flaky_store import FlakyFileSystem


@pytest.fixture
def store():
    """A store that is empty, and does as it should."""
    FlakyFileSystem.clear()
    yield FlakyFileSystem
    FlakyFileSystem.clear()
