"""Study files as attack or accident: refused at once, in little memory, with a line that a terminal can show."""

import os
import resource
import subprocess
import sys
import time

import pytest

from selftune.cli import main
from selftune.studies.machine import within_memory
from selftune.studies.mistakes import ENOUGH, Mistakes, printable
from selftune.studies.study_file import parse_study
from selftune.studies.yaml_file import MAXIMUM_BYTES, MAXIMUM_DEPTH, parse_yaml

STUDY = """\
study: tiny
objective: {task: digits, hidden: [16], train_examples: 200}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 10}
budget: {steps: 60}
"""
ALIASES = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
LEVELS = "".join(f"{' ' * n}a:\n" for n in range(700))


def refused(text):
    with pytest.raises(Mistakes) as caught:
        parse_study(text)
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        (ALIASES, "more than 20000 values up to here, those behind aliases included"),
        ("x: &x [1]\ny: [" + "*x," * 15_000 + "]", "more than 20000 values"),
        ("x: " + "[" * 100_000, "line 6: goes deeper than 40 levels"),
        ("x: " + "{a: " * 10_000, "line 6: goes deeper than 40 levels"),
        ("x: " + "[" * 50_000 + "]" * 50_000, "goes deeper than 40 levels"),
        (f"x:\n{LEVELS}", "goes deeper than 40 levels"),
        ("x: [" + "1," * 100_000 + "]", "more than 20000 values"),
        ("x: {" + "? a : 1," * 50_000 + "}", "more than 20000 values"),
        ("x: " + "9" * 100_000, "line 6: the whole number 9999999999... has 100000 digits"),
        ('metric: "\\ud800"', "line 6: a text holds '\\ud800', which is no character to be seen"),
        ('"\\udfff": 1', "line 6: a text holds '\\udfff'"),
        ('metric: "a\\0b"', "line 6: a text holds '\\x00'"),
        ('metric: "\\e[31m"', "line 6: a text holds '\\x1b'"),
        ('"\\x9b2J": 1', "line 6: a text holds '\\x9b'"),
        ('metric: "\\u202etxt"', "line 6: a text holds '\\u202e'"),
        ("metric: a\0b", "is not YAML: unacceptable character #x0000"),
        ("metric: a\x1b[2Jb", "is not YAML: unacceptable character #x001b"),
        ("study: again", "line 6: the key 'study' is there twice"),
        ("x: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_what_is_broken_or_bad_is_one_line_at_once(more, fragment):
    began = time.process_time()
    (line,) = refused(STUDY + more)
    assert time.process_time() - began < 10  # seconds; unbounded, they take minutes to years
    assert fragment in line
    assert printable(line) == line or len(line) > 400


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("start: 0.1", "start: 1e400", "regularizers.dropout.rate.start: must be a finite number, got inf"),
        ("start: 0.1", "start: -1e308", "regularizers.dropout.rate.start: must be at most 3.4e+38 in size"),
        ("hidden: [16]", "learning_rate: 1e308", "objective.learning_rate: must be at most 3.4e+38 in size"),
        ("name: self_tuning", "name: self_tuning, learning_rate: 1e308", "method.learning_rate: must be at most"),
        ("[16]", f"[{2**62}]", "objective: the network cannot be built here: Storage size calculation overflowed"),
        ("[16]", f"[{2**70}]", "objective: the network cannot be built here: "),
        ("[16]", "[100000000000]", "objective: the network cannot be built here: "),
        ("task: digits", "task: {a: 1}", "objective.task: must be a name, got {'a': 1}; name one of "),
        ("name: self_tuning", "name: {a: [1]}", "method.name: must be a name, got {'a': [1]}; name one of "),
        ("name: self_tuning", "name: [a]", "method.name: must be a name, got ['a']; name one of "),
        ("study: tiny", "study: {a: 1}", "study: must be a text, got {'a': 1}"),
        ("{dropout: {rate: {start: 0.1}}}", "[dropout]", "regularizers: must be a mapping of settings"),
        (
            "budget:",
            "trainers: {number: 100000000}\nbudget:",
            "trainers.number: must be at most 10000, got 100000000",
        ),
        (
            "budget:",
            "trainers: {cpus: 1e-300}\nbudget:",
            "trainers.cpus: must be at least 0.0001 and finite, got 1e-300",
        ),
        (
            "budget:",
            "trainers: {gpus: 1e-300}\nbudget:",
            "trainers.gpus: must be 0, or at least 0.0001 and finite",
        ),
        ("budget:", "metric: {a: 1}\nbudget:", "metric: must be a text, got {'a': 1}"),
    ],
)
def test_absurd_requests_are_refused_with_their_key(old, new, line):
    (found,) = refused(STUDY.replace(old, new))
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("objective", "line"),
    [
        ("{task: total_variation_denoising, train_crops: %d}", "objective.train_crops: must be at most 10000"),
        ("{task: field_of_experts_denoising, experts: %d}", "objective: cannot be made here: Storage size"),
        ("{task: modular_arithmetic, modulus: %d}", "objective: cannot be made here: "),
        ("{task: quadratic_bilevel, parameter_count: %d}", "objective.parameter_count: must be at most 100000"),
        ("{task: repeated_token_pretraining, depth: %d}", "objective.depth: must be at least 1 and at most 1000"),
    ],
)
def test_sizes_without_end_are_refused_by_their_task(objective, line):
    (found,) = refused(f"study: large\nobjective: {objective % 2**62}\nbudget: {{work: 10}}")
    assert found.startswith(line)


def test_enough_mistakes_are_enough(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(STUDY + "".join(f"unknown{n}: 1\n" for n in range(5_000)))
    began = time.process_time()
    assert main(["check", str(tmp_path / "study.yaml")]) == 2
    assert time.process_time() - began < 20
    assert len(capsys.readouterr().err.splitlines()) == ENOUGH
    names = ", ".join(f"unknown{n}: {{}}" for n in range(9_000))
    assert len(refused(STUDY.replace("{dropout: {rate: {start: 0.1}}}", f"{{{names}}}"))) == ENOUGH


def test_wrong_values_without_end_are_cut(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(STUDY.replace("[16]", f"[{','.join(['a'] * 9_000)}]"))
    assert main(["check", str(tmp_path / "study.yaml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == ENOUGH + 1
    assert lines[-1].endswith("study.yaml: and 8980 more mistakes")


def test_a_file_name_cannot_steer_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a\x1b[31m.yaml").write_text("")
    assert main(["check", "a\x1b[31m.yaml"]) == 2
    assert main(["check", "no\x1b[2J.yaml"]) == 2
    assert main(["check", "x" * 5000]) == 2
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert [len(line) <= 500 for line in told.splitlines()] == [True] * 3


def test_files_up_to_the_bounds_are_read():
    names = {f"layer{n}": 1.0 for n in range(9_000)}
    assert parse_yaml("strength: {" + ", ".join(f"{name}: 1.0" for name in names) + "}")["strength"] == names
    depth = MAXIMUM_DEPTH - 2
    assert parse_yaml("a: " + "[" * depth + "]" * depth)
    shared = parse_yaml("a: &a {b: [1, 2]}\nc: *a\nd: [*a, *a]")
    assert shared["c"] == shared["d"][1] == {"b": [1, 2]}
    assert parse_yaml("a: naïve – 名前")["a"] == "naïve – 名前"


def test_memory_that_the_machine_does_not_have_is_refused_and_then_given_again():
    bound = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), within_memory(2**26):
        bytearray(2**28)
    assert resource.getrlimit(resource.RLIMIT_AS) == bound
    assert len(bytearray(2**28)) == 2**28


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    (place / "large.yaml").write_text(STUDY + "# " + "x" * 30_000_000)
    (place / "list.yaml").write_text(STUDY + "x: [" + "1," * 15_000_000 + "]")
    (place / "just_over.yaml").write_text(STUDY.ljust(MAXIMUM_BYTES + 1))
    (place / "aliases.yaml").write_text(STUDY + ALIASES)
    (place / "latin.yaml").write_bytes(STUDY.encode() + b"metric: \xe9")
    (place / "zeros.yaml").write_bytes(bytes(1_000_000))
    (place / "folder.yaml").mkdir()
    os.mkfifo(place / "pipe.yaml")
    (place / "zero.yaml").symlink_to("/dev/zero")
    (place / "loop.yaml").symlink_to("loop.yaml")
    return place


SCRIPT = """
import sys, time
from selftune.cli import main
status = main(["check", sys.argv[1]])
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(status, time.process_time(), peak, "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("large.yaml", "is larger than 512 KiB; is it a study?"),
        ("list.yaml", "is larger than 512 KiB; is it a study?"),
        ("just_over.yaml", "is larger than 512 KiB; is it a study?"),
        ("zeros.yaml", "is larger than 512 KiB; is it a study?"),
        ("latin.yaml", "is not a text file in UTF-8"),
        ("folder.yaml", "cannot be read: is a directory"),
        ("pipe.yaml", "is no ordinary file but a pipe, a socket or a device"),
        ("zero.yaml", "is no ordinary file but a pipe, a socket or a device"),
        ("loop.yaml", "there is no such file"),
    ],
)
def test_what_is_no_study_is_not_read(name, line, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main(["check", name]) == 2
    assert capsys.readouterr().err == f"{name}: {line}\n"


@pytest.mark.parametrize("name", ["large.yaml", "aliases.yaml", "zero.yaml"])
def test_a_process_refuses_it_in_two_seconds_and_half_a_gigabyte(name, place):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert len(done.stderr.splitlines()) == 1
    status, seconds, kilobytes, torch = done.stdout.split()
    assert status == "2"
    assert float(seconds) < 2  # of the processor's, whatever else it does
    assert int(kilobytes) < 500_000
    assert torch == "False"
