"""Networks as people write them: nothing here knows selftune, and nothing was written for it."""

from networks.awd_lstm import AWDLSTM
from networks.gpt import GPT
from networks.resnet import ResNet18
from networks.vgg import VGG
from networks.vision_transformer import VisionTransformer

__all__ = ["AWDLSTM", "GPT", "VGG", "ResNet18", "VisionTransformer"]
