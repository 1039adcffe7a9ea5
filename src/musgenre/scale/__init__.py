"""Whole collections on Ray Data: :func:`predict_collection`; and :func:`predict_batch`, for other engines as well.

It needs the extra ``scale``. Songs pass four steps: a list, decoding on CPUs, the network in a pool of actors, Parquet.
Ray schedules each step, repeats it when a machine is lost, and holds it back when the next one is slower.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
