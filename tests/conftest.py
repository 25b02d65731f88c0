import sys
from pathlib import Path

import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # for the networks that the tests share

settings.register_profile("selftune", deadline=None, derandomize=True)  # a busy machine is no failure
settings.load_profile("selftune")
torch.set_num_threads(1)
