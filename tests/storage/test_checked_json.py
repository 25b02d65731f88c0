import json
import math

import pytest

from selftune.storage.checked_json import read_json, write_json
from selftune.storage.files import DamagedFile

CONTENT = {"status": "finished", "loss": 0.1, "gap": math.inf, "nested": {"b": [1, None], "a": "ü"}}


def test_it_comes_back_as_it_was_and_is_plain_json(tmp_path):
    write_json(tmp_path / "a.json", CONTENT)
    assert read_json(tmp_path / "a.json") == CONTENT
    assert json.loads((tmp_path / "a.json").read_text())["loss"] == 0.1
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json")


def test_no_byte_changes_unnoticed(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x01]) + content[at + 1 :])
        try:
            assert read_json(path) == CONTENT  # white space
        except DamagedFile as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"status": "finished"}', b"[" * 100_000, b"\xff"])
def test_what_is_no_such_file_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="is damaged"):
        read_json(path)
