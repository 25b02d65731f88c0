"""Online implicit differentiation under Ray Tune's protocol moves as it does in process; no Ray is started."""

import pytest
import torch
from fake_tune import FakeTune
from ray_fakes import Recorder
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.methods import Budget, OnlineImplicit, OnlineImplicitSettings
from selftune.objective import Classification, Optimization
from selftune.regularizer import regularizers
from selftune.schedulers import ImplicitScheduler, trainable
from selftune.training import TrainerFactory, run_in_process
