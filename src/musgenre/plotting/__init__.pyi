from .reports import plot_confusion as plot_confusion
from .reports import plot_reliability as plot_reliability
from .songs import COLOURS as COLOURS
from .songs import NAMED_SHARE as NAMED_SHARE
from .songs import OTHER_COLOUR as OTHER_COLOUR
from .songs import plot_spectrogram as plot_spectrogram
from .songs import plot_timeline as plot_timeline
from .songs import save_overview as save_overview
