"""What a study keeps on disk: files that are whole or not there, and whose damage is noticed."""

from selftune.storage.files import DamagedFile
from selftune.storage.state_file import load_state, save_state
from selftune.storage.state_tree import record

__all__ = ["DamagedFile", "load_state", "record", "save_state"]
