import pytest

from selftune.errors import SettingError
from selftune.storage.remote_folder import RemoteFolder


def test_files_are_written_replaced_listed_brought_back_and_removed(store, tmp_path):
    folder = RemoteFolder("flaky://bucket/runs/digits-1/")
    assert folder.name == "digits-1"
    assert folder.files() == {}
    folder.write("notes/one.txt", b"old")
    folder.write("notes/one.txt", b"new")
    (tmp_path / "rows").write_bytes(b"row row torn")
    folder.upload("rows", tmp_path / "rows", size=8)
    assert {name: file.size for name, file in folder.files().items()} == {"notes/one.txt": 3, "rows": 8}
    assert [*folder.files("notes")] == ["notes/one.txt"]
    folder.download("rows", tmp_path / "back" / "rows")
    assert (tmp_path / "back" / "rows").read_bytes() == b"row row "
    folder.delete("rows")
    folder.delete("rows")
    assert [*folder.files()] == ["notes/one.txt"]
    with pytest.raises(FileNotFoundError):
        folder.read("rows")


def test_a_file_that_got_shorter_is_not_written(store, tmp_path):
    folder = RemoteFolder("flaky://bucket/a")
    (tmp_path / "rows").write_bytes(b"ro")
    with pytest.raises(OSError, match="is shorter than it was"):
        folder.upload("rows", tmp_path / "rows", size=8)
    assert "rows" not in folder.files()


def test_a_store_that_is_away_is_one_sentence(store):
    folder = RemoteFolder("flaky://bucket/a")
    store.is_away = True
    for request in (folder.files, lambda: folder.read("x"), lambda: folder.write("x", b"")):
        with pytest.raises(OSError, match=r"^flaky://bucket/a: the network is down$"):
            request()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (
            "foo://me:s3cret@bucket/a",
            r"foo://\*\*\*@bucket/a: foo:// is no known kind of storage; known are s3://",
        ),
        ("s3://", "s3://: names no folder"),
        (
            "s3://me:s3cret@bucket/a?token=s3cret",
            r"s3://\*\*\*@bucket/a\?token=\*\*\*: Unexpected query parameter",
        ),
        ("abfs://container/a", "names no account; write abfs://CONTAINER@ACCOUNT"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_sentence_without_secrets(address, sentence):
    with pytest.raises(SettingError, match=sentence) as found:
        RemoteFolder(address)
    assert "s3cret" not in str(found.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    import fsspec

    def missing(address):
        raise ImportError("Install adlfs to access Azure Datalake Gen2 and Azure Blob Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(
        SettingError, match=r"^az://container/a: az:// needs the package adlfs; install it with pip$"
    ):
        RemoteFolder("az://container/a")


def test_on_a_disk_a_file_gets_its_name_once_it_is_whole(tmp_path):
    folder = RemoteFolder(f"file://{tmp_path}/run")
    folder.write("summary.json", b"{}")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["summary.json"]
