from .base import BACKBONES as BACKBONES
from .base import Backbone as Backbone
from .base import InputSpec as InputSpec
from .base import register_backbone as register_backbone
from .vgg import VGG16 as VGG16
from .vgg import VGG16Slim as VGG16Slim
from .yamnet import AudioSetScores as AudioSetScores
from .yamnet import YAMNet as YAMNet
