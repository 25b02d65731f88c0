import logging
import signal
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from ray._private import utils
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution.tune_controller import TuneController

from selftune.schedulers import BilevelScheduler, SchedulerError, ray_internals
from selftune.schedulers.transport import DirectTransport, MailboxTransport, make_transport


def test_the_installed_ray_is_the_known_one():
    assert ray_internals.problem() is None
    assert isinstance(make_transport("auto"), DirectTransport)


def test_another_version_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("ray.__version__", "2.61.0")
    with pytest.raises(SchedulerError, match=r"this is Ray 2.61.0, .*install \"ray\[tune\]>=2.60,<2.61\", or set"):
        BilevelScheduler(lambda: None, transport="direct")


def test_another_version_falls_back_to_the_mailbox_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr("ray.__version__", "2.61.0")
    with caplog.at_level(logging.WARNING):
        assert isinstance(make_transport("auto"), MailboxTransport)
    assert "Ray 2.61.0" in caplog.text
    assert "mailbox transport is used" in caplog.text


def test_a_changed_signature_is_found(monkeypatch):
    monkeypatch.setattr(TuneController, "_schedule_trial_task", lambda self, trial, urgent: None)
    assert "_schedule_trial_task of this Ray 2.60.0 is not the known one" in ray_internals.problem()


def test_a_method_that_is_gone_is_found(monkeypatch):
    monkeypatch.delattr(TuneController, "_schedule_trial_task")
    assert "_schedule_trial_task" in ray_internals.problem()


def test_an_unknown_transport_is_refused():
    with pytest.raises(SchedulerError, match="'auto', 'direct' or 'mailbox'"):
        make_transport("pigeon")


def test_rays_answer_to_sigterm_does_not_replace_that_of_the_program():
    def own(number, frame): ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        with ray_internals.signals_of_the_program():
            utils.set_sigterm_handler(lambda number, frame: None)
        assert signal.getsignal(signal.SIGTERM) is own
        utils.set_sigterm_handler(before)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_program_without_an_answer_to_sigterm_gets_rays():
    def rays(number, frame): ...

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ray_internals.signals_of_the_program():
            utils.set_sigterm_handler(rays)
        assert signal.getsignal(signal.SIGTERM) is rays
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_that_has_ended_leaves_ctrl_c_as_it_was():
    before = signal.getsignal(signal.SIGINT)
    with ray_internals.own_interrupts():
        signal.signal(signal.SIGINT, lambda number, frame: None)  # as Tune does
    assert signal.getsignal(signal.SIGINT) is before


def test_a_worker_that_the_memory_monitor_ends_is_one_that_died():
    ray_internals.count_lost_workers_as_failures()
    ray_internals.count_lost_workers_as_failures()
    heard = []
    actor = TrackedActor(1, on_error=lambda actor, error: heard.append(error))
    task = TrackedActorTask(actor, on_error=lambda actor, error: heard.append(error))
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    for error in (OutOfMemoryError("killed"), RuntimeError("a bug")):
        with nullcontext() if isinstance(error, OutOfMemoryError) else pytest.raises(RuntimeError, match="a bug"):
            RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=error)  # as Tune does
    assert [type(error) for error in heard] == [RayActorError, RayActorError]
    assert "killed" in str(heard[0])
