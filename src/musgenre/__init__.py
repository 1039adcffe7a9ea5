"""Music genre classification.

>>> import musgenre
>>> classifier = musgenre.GenreClassifier.from_pretrained()

Data flows in one direction: **audio → feature → backbone → head → genre**.

- :mod:`musgenre.audio` decodes and resamples audio and cuts windows.
- :mod:`musgenre.functional` and :mod:`musgenre.transforms` compute spectrograms, as functions and as modules.
- :mod:`musgenre.features` and :mod:`musgenre.backbones` are the components of a network, extensible by plugins.
- :mod:`musgenre.datasets` lists tracks and splits them.
- :mod:`musgenre.models` holds the network, :class:`GenreClassifier`, inference, serialization and explanations.
- :mod:`musgenre.training` holds :func:`finetune`, and :mod:`musgenre.evaluation` :func:`evaluate` and
  :func:`cross_validate`.
- :mod:`musgenre.metrics` and :mod:`musgenre.plotting` compute and plot figures of merit.
- :mod:`musgenre.sklearn`, :mod:`musgenre.scale` and :mod:`musgenre.testing` integrate with scikit-learn, run on
  clusters, and check plugins.
- :mod:`musgenre.cli` is the command line, :mod:`musgenre.app` the web page.
- :mod:`musgenre.core` holds errors, configuration, registries, files, downloads and threads.

Public names are loaded lazily: importing the package imports neither torch nor librosa.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
