"""Prediction of large collections: :func:`predict_collection` with Ray Data, :func:`predict_batch` for other engines.

Requires the extra ``scale``. The pipeline has four steps: list the songs, decode them on CPUs, run the network in a
pool of actors, and write Parquet. Ray schedules the steps, repeats them if a machine is lost, and applies backpressure.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
