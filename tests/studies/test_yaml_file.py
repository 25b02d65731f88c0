import math

import pytest

from selftune.studies.mistakes import Mistakes
from selftune.studies.yaml_file import not_finite, parse_yaml, read_text


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("-1E5", -1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("", None),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        (".inf", math.inf),
        ("'1e-4'", "1e-4"),
    ],
)
def test_scalars_are_what_they_look_like(written, value):
    read = parse_yaml(f"key: {written}")["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "line 4", "'c' is there twice"),
        ("a: b: c", "line 1", "mapping values"),
        ("a: 1\nb: [1", "line 2", "expected"),
        ("1: 2", "line 1", "write it in quotes"),
        ("a: &x {b: *x}", "line 1", "recursive"),
        ("a: !!python/name:os.system", "line 1", "could not determine a constructor"),
        ("a: !!int x", "", "cannot be read"),
        ("", "", "is empty"),
        ("# only a comment", "", "is empty"),
        ("- 1", "", "must be a mapping"),
        ("a: 1\n---\nb: 2", "line 2", "another document"),
        ("a: \x01", "", "not YAML"),
    ],
)
def test_refuses_with_the_line(text, key, fragment):
    with pytest.raises(Mistakes) as caught:
        parse_yaml(text)
    (mistake,) = caught.value.mistakes
    assert mistake.key == key
    assert fragment in mistake.message
    assert "\n" not in mistake.message


def test_only_bounds_may_be_infinite():
    content = {"a": [1.0, math.nan], "r": {"domain": {"interval": [0.0, math.inf]}}}
    assert [mistake.key for mistake in not_finite(content)] == ["a.1"]


@pytest.mark.parametrize(("name", "fragment"), [("absent", "no such file"), (".", "directory"), ("b", "UTF-8")])
def test_unreadable_files(tmp_path, name, fragment):
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Mistakes, match=fragment):
        read_text(tmp_path / name)
