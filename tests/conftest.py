import torch
from hypothesis import settings

settings.register_profile("selftune", deadline=None, derandomize=True)  # a busy machine is no failure
settings.load_profile("selftune")
torch.set_num_threads(1)
