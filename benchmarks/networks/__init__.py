"""Networks as people write them: nothing here knows selftune, and nothing was written for it.

Those that tasks of the catalogue train are there.
"""

from selftune.objectives.networks.awd_lstm import AWDLSTM
from selftune.objectives.networks.gpt import GPT
from selftune.objectives.networks.resnet import ResNet18

from networks.vgg import VGG
from networks.vision_transformer import VisionTransformer

__all__ = ["AWDLSTM", "GPT", "VGG", "ResNet18", "VisionTransformer"]
