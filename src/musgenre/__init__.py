"""Musgenre tells the genre of a piece of music.

>>> import musgenre
>>> classifier = musgenre.GenreClassifier.from_pretrained()

A song flows one way: **audio → feature → backbone → head → genre**.

- :mod:`musgenre.audio` decodes and resamples; :mod:`musgenre.functional` and :mod:`musgenre.transforms`
  compute spectrograms.
- :mod:`musgenre.features` and :mod:`musgenre.backbones` are what a network is made of, and are where
  plugins join in; :mod:`musgenre.models.network` puts them together.
- :class:`GenreClassifier` predicts; :mod:`musgenre.models.serialization` reads and writes models.
- :mod:`musgenre.datasets` lists tracks and splits them; :func:`finetune` trains on them;
  :mod:`musgenre.metrics` measures.

Names load when they are touched: importing the package imports neither torch nor librosa.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
