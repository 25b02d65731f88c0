import sys
from pathlib import Path

from ray import cloudpickle

sys.path.insert(0, str(Path(__file__).parent))

import sweep_fakes

cloudpickle.register_pickle_by_value(sweep_fakes)  # workers do not see this folder
