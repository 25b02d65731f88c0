import sys
from pathlib import Path

from ray import cloudpickle

sys.path.insert(0, str(Path(__file__).parent))

import sweep_fakes
import team_fakes

for module in (sweep_fakes, team_fakes):
    cloudpickle.register_pickle_by_value(module)  # workers do not see this folder
