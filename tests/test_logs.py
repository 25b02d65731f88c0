import logging
import re

import pytest

from selftune.logs import SHOWN, WorkerLog, about, driver_log

logger = logging.getLogger("selftune.example")


@pytest.fixture(autouse=True)
def as_before():
    selftune = logging.getLogger("selftune")
    handlers, level = list(selftune.handlers), selftune.level
    yield
    for handler in [one for one in selftune.handlers if one not in handlers]:
        selftune.removeHandler(handler)
        handler.close()
    selftune.setLevel(level)


def test_every_line_says_what_it_is_about(tmp_path):
    with driver_log(tmp_path, "info", study="digits"):
        logger.info("begins")
        with about(team=3, trainer=1):
            logger.warning("is %s", "lost")
        logger.debug("too much")
    logger.info("too late")
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    first, second = (tmp_path / "logs" / "driver.log").read_text().splitlines()
    assert re.fullmatch(rf"{time} INFO study=digits team=- trainer=- selftune\.example: begins", first)
    assert re.fullmatch(rf"{time} WARNING study=digits team=3 trainer=1 selftune\.example: is lost", second)


def test_warnings_that_nobody_else_shows_are_on_stderr_too(tmp_path, capsys):
    with driver_log(tmp_path, "debug", study="digits"):
        logger.info("begins")
        logger.warning("shown", extra=SHOWN)
        logger.warning("goes on from the checkpoint before it")
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "goes on from the checkpoint before it"
    ]


def test_the_level_is_as_before_afterwards(tmp_path):
    before = logging.getLogger("selftune").level
    with driver_log(tmp_path, "debug"):
        assert logger.isEnabledFor(logging.DEBUG)
    assert logging.getLogger("selftune").level == before


def test_the_lines_of_a_study_that_has_one_team_name_none(tmp_path):
    WorkerLog(str(tmp_path), "info", "digits").open("trainer-1", None, 1)
    logger.info("begins")
    assert "study=digits team=- trainer=1 " in (tmp_path / "logs" / "trainer-1.log").read_text()


def test_a_worker_writes_a_file_of_its_own_for_one_trial_after_the_other(tmp_path):
    log = WorkerLog(str(tmp_path), "info", "digits")
    log.open("trial-0", 0, 0)
    logger.info("first")
    log.open("trial-1", 1, 0)
    logger.info("second")
    texts = [(tmp_path / "logs" / f"trial-{number}.log").read_text() for number in (0, 1)]
    assert [text.partition(" INFO ")[2] for text in texts] == [
        "study=digits team=0 trainer=0 selftune.example: first\n",
        "study=digits team=1 trainer=0 selftune.example: second\n",
    ]
