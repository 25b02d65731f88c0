"""What a search is, before anything runs it: the space, the settings, and what is known of each trial."""

from selftune.search.settings import SearchSettings
from selftune.search.space import SearchSpace, Swept
from selftune.search.trial_record import TrialRecord, TrialsListener

__all__ = ["SearchSettings", "SearchSpace", "Swept", "TrialRecord", "TrialsListener"]
