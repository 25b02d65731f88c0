"""The adaptor that makes any bilevel method a Ray Tune scheduler."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from selftune.errors import SettingError
from selftune.listener import Listener, Place
from selftune.logs import WorkerLog
from selftune.methods import Method, Report
from selftune.methods.reports import Diverged
from selftune.methods.team_method import CANNOT_GROW, TeamMethod
from selftune.schedulers import ray_internals
from selftune.schedulers.callback import StateCallback
from selftune.schedulers.calls import call
from selftune.schedulers.ending import Ending
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.failures import is_full_disk, last_failure
from selftune.schedulers.hangs import Hangs
from selftune.schedulers.run_record import RunState
from selftune.schedulers.team import Team
from selftune.schedulers.trainable import ENGINE, KEPT_CHECKPOINTS
from selftune.schedulers.transport import TransportName, make_transport
from selftune.schedulers.trial_groups import TrialGroup, TrialGroups

logger = logging.getLogger(__name__)


class BilevelScheduler(TrialScheduler):
    """Drives one method per team of ``team_size`` trials.

    Trials stay RUNNING from their first order to their last; new hyperparameters travel with orders, not
    through pauses. ``team_size`` consecutive trials form a team, or those whose configs number them by
    ``"member"``. A team starts when the cluster has room for all of it. The state of methods and teams
    outlives failures of workers and of the driver: that takes the ``callback``, which ``run_config`` brings.

    Args:
        method: builds a team's method; called with the number of the ``team`` and the ``config`` of its first
            trial, as far as it has parameters of these names. Must be picklable.
        team_size: trials that share one hyperparameter vector.
        transport: ``"direct"`` (fastest), ``"mailbox"`` (public interface of Ray only), or ``"auto"``.
        listener: builds what hears a team's events, called with the number of the team; must be picklable.
        patience: seconds to wait for an autoscaling cluster to become large enough for a team.
        at_least: trials with which a team may start where the cluster has no room for all of it; the others join
            once there is room, from a team-mate's state. None for all.
        hang_after: seconds after which a trainer that does not come to the end of an order counts as hanging; it
            is ended and started again. None for ten times the longest order so far, and ten minutes at least.

    Raises:
        SettingError: if ``team_size`` is less than 1, or ``at_least`` not in between; by the run, if the method's
            team cannot grow.
        SchedulerError: if the direct transport is asked for and does not know this version of Ray.

    Attributes:
        left: what an earlier driver left; a run that starts then goes on from there.

    >>> from selftune.methods import Budget, SelfTuning
    >>> BilevelScheduler(lambda: SelfTuning(Budget(steps=100))).debug_string()
    '0 teams of 1'
    """

    _supports_buffered_results = False

    def __init__(
        self,
        method: Callable[..., Method],
        team_size: int = 1,
        *,
        transport: TransportName = "auto",
        listener: Callable[[int], Listener] | None = None,
        patience: float = 0.0,
        at_least: int | None = None,
        hang_after: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if team_size < 1:
            raise SettingError("team_size", f"must be at least 1, got {team_size}")
        if hang_after is not None and not 0 < hang_after < math.inf:
            raise SettingError("hang_after", f"must be above 0 and finite, got {hang_after:g}")
        if at_least is not None and not 1 <= at_least <= team_size:
            raise SettingError("at_least", f"must be from 1 to {team_size}, the size of the team, got {at_least}")
        self.team_size = team_size
        self.listener = listener
        self.make_method = method
        self.left: RunState | None = None
        self.log: WorkerLog | None = None
        self.ending: Ending | None = None  # given after Tune has pickled the scheduler, if at all
        self._transport = make_transport(transport)
        self._patience = patience
        self._at_least = at_least
        self._hang_after = hang_after
        self._reset()

    def _reset(self) -> None:
        self._groups = TrialGroups(self.team_size, self._make_team, self._patience, self._at_least)
        self._failure: Exception | None = None
        self._has_callback = False
        self._new_checkpoint = False
        self._asked_to_save: set[str] = set()
        self._news: set[int] = set()  # numbers of the teams of which something was heard since orders went out
        self._hangs = Hangs(self._hang_after)
        if self.left is not None:
            self.load_state_dict({**self.left.scheduler, "places": {}})  # those of this run's trials are new

    def __getstate__(self) -> dict[str, Any]:
        """What ``Tuner`` saves before it starts; what happens later travels through the callback."""
        runtime = (
            "_groups", "_failure", "_has_callback", "_new_checkpoint", "_asked_to_save", "_hangs", "_news",
        )  # fmt: skip
        return {key: value for key, value in self.__dict__.items() if key not in runtime} | {"left": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _make_team(self, number: int, config: Mapping[str, Any]) -> Team:
        listener = self.listener(number) if self.listener else Listener()
        method = call(self.make_method, team=number, config=dict(config))
        if self._at_least is not None and not method.can_grow:
            raise SettingError("at_least", CANNOT_GROW)
        return Team(method, self.team_size, listener, KEPT_CHECKPOINTS)

    # What a user needs -------------------------------------------------------------------------------

    def tune_config(self, **settings: Any) -> tune.TuneConfig:
        """A ``tune.TuneConfig`` with this scheduler, one team, and the validation loss as what is best.

        Ray takes from there what ``ResultGrid.get_best_result()`` means where it is given no metric.

        Args:
            settings: as for ``tune.TuneConfig``; they win.

        >>> from selftune.schedulers import SelfTuningScheduler
        >>> SelfTuningScheduler(steps=600, team_size=2).tune_config().num_samples
        2
        """
        recommended: dict[str, Any] = {"num_samples": self.team_size, "metric": "validation_loss", "mode": "min"}
        return tune.TuneConfig(scheduler=self, **(recommended | settings))

    def callback(self) -> StateCallback:
        """The companion that carries this scheduler's state; goes into ``RunConfig(callbacks=[...])``."""
        return StateCallback(self)

    def run_config(self, **settings: Any) -> tune.RunConfig:
        """A ``tune.RunConfig`` with the callback, and with settings under which studies survive failures.

        Args:
            settings: as for ``tune.RunConfig``; they win over the recommended ones.
        """
        recommended: dict[str, Any] = {
            "failure_config": tune.FailureConfig(max_failures=3),
            "checkpoint_config": tune.CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS, checkpoint_at_end=True),
        }
        callbacks = list(settings.pop("callbacks", ()))
        if not any(isinstance(one, StateCallback) for one in callbacks):
            callbacks.insert(0, self.callback())
        return tune.RunConfig(callbacks=callbacks, **(recommended | settings))

    @property
    def teams(self) -> list[Team]:
        """The teams so far."""
        return [group.team for group in self._groups.entries]

    def debug_string(self) -> str:
        return f"{len(self.teams)} teams of {self.team_size}"

    # Tune's hooks ------------------------------------------------------------------------------------

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._reset()  # a run calls this once, before anything else
        ray_internals.count_lost_workers_as_failures()
        if spec.get("stop"):
            logger.warning(
                "RunConfig(stop=...) ends single trials of a team; use the method's budget to end all of them"
            )
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if not self._groups.add(trial):
            return  # a failed trial is queued again
        team, member = self._groups.team_of(trial)
        number, _ = self._groups.places[trial.trial_id]
        settings = {
            "member": member,
            "team": number,
            "stateful": team.method.stateful,
            **self._transport.config(),
        }
        start = None if self.left is None else self.left.checkpoints.get(member)
        if start is not None:
            settings["start"] = str(start)
        if self.log is not None:
            settings["log"] = self.log.as_mapping()
        metrics = self._required_metrics(tune_controller)
        if metrics:
            settings["metrics"] = metrics
        trial.set_config({**trial.config, ENGINE: settings})
        unfinished = trial.status == Trial.TERMINATED and not team.members[member].over
        if trial.status == Trial.PENDING or unfinished:
            # Paused until all of the team may start. Tune may have saved its end when the team's state
            # beside it did not yet hold its last report: then it is asked again.
            trial.set_status(Trial.PAUSED)

    def _required_metrics(self, controller: Any) -> tuple[str, ...]:
        """Metrics that Tune or the searcher wants in every result, also in that of a start."""
        named = [self.metric, getattr(controller.search_alg, "metric", None)]
        flat = [name for entry in named for name in (entry if isinstance(entry, list) else [entry])]
        return tuple(dict.fromkeys(name for name in flat if name and not name.startswith("_")))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        team, member = self._heard_of(trial)
        over = False
        match result["event"]:
            case "ready":
                if not self._transport.arrived(trial, result["incarnation"]):
                    self._send_again(trial)
                try:
                    place = Place(result.get("hostname", ""), result.get("pid", 0))
                    over = team.arrive(member, result["order"], result["space"].content, place)
                except (SchedulerError, ValueError) as error:  # Tune would bury it in a traceback
                    self._failure = error
            case "report":
                self._hangs.done(trial.trial_id)
                over = team.take(member, _with_checkpoint(result["report"].content, trial))
            case "refused":
                self._failure = SettingError(result["key"], result["message"])
        return TrialScheduler.STOP if over else self._transport.decision

    def _heard_of(self, trial: Any) -> tuple[Team, int]:
        """The team of a trial, which may have something to order now, and which of its members the trial is."""
        number, member = self._groups.places[trial.trial_id]
        self._news.add(number)
        return self._groups.entries[number].team, member

    def _send_again(self, trial: Any) -> None:
        """The trial never got its order, because the state to start from was lost on its way."""
        group = self._groups.group_of(trial)
        lost = group.team.send_again(self._groups.team_of(trial)[1])
        if lost is not None:
            group.warm_starts.forget(lost, self._transport)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._transport.departed(trial)
        self._groups.changed()
        team, member = self._heard_of(trial)
        reason = self._hangs.reason(trial.trial_id) or last_failure(trial.error_file)
        if is_full_disk(reason):  # the study ends as it is: a team that lost this trainer would go another way
            self._failure = OSError(f"trainer {member}: {reason}")
            return
        if trial.should_recover():
            team.restart(member, reason)
        else:
            team.lose(member, reason)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._transport.departed(trial)
        self._groups.changed()
        team, member = self._heard_of(trial)
        team.lose(member, "its trial was stopped before the method was done")

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.on_trial_complete(tune_controller, trial, {})

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Tune calls this once per step of its loop: the one place from which orders go out.

        Never in ``on_trial_result``: Tune writes the checkpoint that a result asks for after that hook, and
        an order sent there would overtake it.
        """
        if self._failure is not None:
            raise self._failure
        if not self._has_callback:
            raise SchedulerError(
                f"{type(self).__name__} needs its callback to keep its state: give the Tuner "
                "run_config=scheduler.run_config(...), or put scheduler.callback() into its callbacks"
            )
        if self._new_checkpoint:
            self._new_checkpoint = False
            self._transport.checkpointed(tune_controller)
        self._end_hanging()
        if self.ending is not None and self.ending.asked():
            self._end(tune_controller, self.ending)
            return None
        for number in sorted(self._news):  # to look at a thousand teams for each report would take longer than it
            self._news.discard(number)
            group = self._groups.entries[number]
            if group.running:
                self._pump(tune_controller, number, group)
            for member in group.team.close():
                group.trials[member].init_local_path()  # Tune's results name a folder of every trial
                tune_controller.stop_trial(group.trials[member])
        chosen = self._groups.next_trial(tune_controller.search_alg)
        self._news |= self._groups.shrunk
        self._groups.shrunk.clear()
        for trial in self._groups.withdrawn:
            ray_internals.withdraw(tune_controller, trial)
        self._groups.withdrawn.clear()
        if chosen is not None:
            self._heard_of(chosen)
        return chosen

    def _pump(self, controller: Any, number: int, group: TrialGroup) -> None:
        team = group.team
        team.ask()
        waiting = list(team.waiting())
        # Tune mixes up decisions that meet a checkpoint
        orders = {member: team.dispatch(member) for member in waiting if not group.trials[member].is_saving}
        group.warm_starts.request(orders.values(), team, group.trials, self._transport)
        for member, order in orders.items():
            self._transport.send(controller, group.trials[member], order, group.warm_starts.of(order))
        if len(orders) < len(waiting):
            self._news.add(number)
        if team.stalled:
            raise SchedulerError(
                "the method stalled: every trainer of its team is idle, and it neither asks for anything nor "
                "gave each of them its last order"
            )

    def _end_hanging(self) -> None:
        """Ends processes of trials that hang; Tune then starts them again, like any that died."""
        if not self._hangs.is_due():
            return
        for group in self._groups.entries:
            for member, trial in group.trials.items():
                team = group.team
                why = self._hangs.look(trial.trial_id, group.work(member), team.behind(member))
                if why is not None:
                    team.listener.hung(member, why)
                    ray_internals.end_process(trial)

    def _end(self, controller: Any, ending: Ending) -> None:
        """Gives no more orders; ends the run once nobody works on one, and each trainer's state is saved."""
        places = [
            (group.team, member, trial) for group in self._groups.entries for member, trial in group.trials.items()
        ]
        saved = [self._is_saved(controller, *place) for place in places]
        if all(saved) and not ending.has_ended:
            ending.now()

    def _is_saved(self, controller: Any, team: Team, member: int, trial: Any) -> bool:
        """Whether a trial needs nothing more before the run ends; a checkpoint that is missing is asked for."""
        if trial.is_finished() or not team.present(member):  # one that starts goes on from what it has
            return True
        if team.members[member].over or team.working(member) or trial.is_saving:
            return False
        if team.is_saved(member) or trial.trial_id in self._asked_to_save:
            return True
        self._asked_to_save.add(trial.trial_id)
        ray_internals.save(controller, trial)
        return False

    # The callback's hooks ----------------------------------------------------------------------------

    def on_callback_ready(self) -> None:
        self._has_callback = True

    def on_checkpoint(self, trial: Any, snapshot: bool = True) -> None:
        """A checkpoint of the trial exists; ``snapshot``: and Tune's state is to name it at once."""
        saved = trial.latest_checkpoint_result
        if saved is not None:
            team, member = self._heard_of(trial)
            team.saved(member, saved.metrics["order"])
            self._new_checkpoint = self._new_checkpoint or snapshot

    def on_end(self) -> None:
        """The run is over."""
        for team in self.teams:
            team.listener.ended()

    def member_of(self, trial: Any) -> int:
        """Which member of its team a trial is."""
        return self._groups.team_of(trial)[1]

    def hyper_step_of(self, trial: Any) -> int | None:
        """The number of the last hyper-step of the trial's team."""
        return self._groups.team_of(trial)[0].hyper_step

    def hyperparameters_of(self, trial: Any) -> dict[str, float]:
        """The current values of the trial's team by name; empty before it has them, or where a method has none."""
        method = self._groups.team_of(trial)[0].method
        if not isinstance(method, TeamMethod) or method.space is None:
            return {}
        return dict(zip(method.space.names, method.hyperparameters.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {
            "teams": [team.state_dict() for team in self.teams],
            "configs": [group.config for group in self._groups.entries],
            "places": self._groups.places,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for saved, config in zip(state["teams"], state["configs"], strict=True):
            self._groups.append(config).team.load_state_dict(saved)
        self._groups.places = dict(state["places"])


def _with_checkpoint(report: Report, trial: Any) -> Report:
    """The report; that of a trainer that diverged also names the last checkpoint from before."""
    if not isinstance(report, Diverged) or trial.checkpoint is None:
        return report
    return replace(report, message=f"{report.message}; its last good checkpoint is {trial.checkpoint.path}")
