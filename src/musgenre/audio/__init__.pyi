from .reading import SHORTEST_SECONDS as SHORTEST_SECONDS
from .reading import AudioWindows as AudioWindows
from .reading import blocks as blocks
from .reading import duration_seconds as duration_seconds
from .reading import load as load
from .reading import read_window as read_window
from .reading import tile as tile
from .sources import AudioSource as AudioSource
