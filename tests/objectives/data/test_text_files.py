"""Text files as tokens."""

import pyarrow
import pyarrow.parquet
import pytest
from selftune.objectives.data.text_files import UNKNOWN, read_text

from selftune.errors import SettingError

SONG = "Row, row, row your boat,\nGently down the stream.\n" * 10


@pytest.fixture
def song(tmp_path):
    (tmp_path / "song.txt").write_text(SONG, encoding="utf-8")
    return tmp_path / "song.txt"


def refused(path, sentence, **settings):
    with pytest.raises(SettingError) as refusal:
        read_text(path, **settings)
    assert sentence in str(refusal.value)


def spelled(text):
    return [text.vocabulary[token] for token in text.tokens]


def test_characters_come_back_as_they_were(song):
    text = read_text(song)
    assert "".join(spelled(text)) == SONG
    assert {*text.vocabulary} == {*SONG}
    assert [len(part) for part in text.splits.values()] == [294, 98, 98]
    counts = text.tokens[text.splits["train"]].bincount().tolist()
    assert counts == sorted(counts, reverse=True), "frequent ones come first"


def test_words_are_words_marks_and_ends_of_lines_and_rare_ones_are_one(song):
    text = read_text(song, unit="words")
    assert spelled(text)[:8] == ["Row", ",", "row", ",", "row", "your", "boat", ","]
    assert "\n" in text.vocabulary
    assert UNKNOWN not in text.vocabulary
    few = read_text(song, unit="words", vocabulary=4)
    assert (len(few.vocabulary), few.vocabulary[3]) == (4, UNKNOWN)
    assert {*few.vocabulary[:3]} == {",", "\n", "row"}
    assert spelled(few).count(UNKNOWN) == sum(word not in few.vocabulary for word in spelled(text))


def test_what_only_later_text_has_is_unknown(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 80 + "b" * 20)
    assert read_text(tmp_path / "a.txt").vocabulary == ("a", UNKNOWN)


def test_files_of_a_folder_are_splits_by_their_names_or_joined(tmp_path):
    for name, text in (("ptb.train.txt", "aab"), ("ptb.valid.txt", "ba"), ("ptb.test.txt", "b\r\nb")):
        (tmp_path / name).write_bytes(text.encode())
    text = read_text(tmp_path)
    assert {name: "".join(spelled(text)[at] for at in part) for name, part in text.splits.items()} == {
        "train": "aab",
        "validation": "ba",
        "test": f"b{UNKNOWN}b",
    }
    (tmp_path / "more.txt").write_text("abc")
    refused(tmp_path, "more.txt does not say its split, as ptb.test.txt does")
    (tmp_path / "more.txt").unlink()
    (tmp_path / "ptb.valid.txt").unlink()
    refused(tmp_path, "has no text of the validation split")
    (tmp_path / "ptb.test.txt").rename(tmp_path / "two.txt")
    (tmp_path / "ptb.train.txt").rename(tmp_path / "one.txt")
    assert "".join(spelled(read_text(tmp_path))) == f"aabb{UNKNOWN}b"


def test_rows_of_parquet_files_are_joined(tmp_path):
    file = tmp_path / "text.parquet"
    columns = {"text": ["ab", "ba", "b", "a"], "split": ["train", "train", "validation", "test"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    text = read_text(file)
    assert "".join(spelled(text)) == "abbaba"
    assert text.splits["validation"].tolist() == [4]
    pyarrow.parquet.write_table(pyarrow.table({"texts": ["a"]}), file)
    refused(file, "has no column 'text'; did you mean texts?")
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), file)
    refused(file, "has no rows")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), file)
    refused(file, "row 1: the column text holds None")


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    refused(tmp_path / "none.txt", f"path: there is no file {tmp_path}/none.txt; give a text file in UTF-8")
    refused(tmp_path, "holds no *.txt file")
    file = tmp_path / "a.txt"
    for content, sentence in (
        (b"", "holds no text"),
        (b"ab", "2 examples are too few: the validation split would be empty"),
        (b"a\xff", "is no text in UTF-8 (byte 1)"),
        (b"a\0b", "holds zero bytes"),
    ):
        file.write_bytes(content)
        refused(file, sentence)
    refused(file, "unit: must be characters or words, got 'lines'", unit="lines")
    refused(file, "vocabulary: must be at least 2 tokens, got 1", vocabulary=1)
