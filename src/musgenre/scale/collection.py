"""A whole collection on Ray Data: tasks that decode, actors that hold the network, Parquet, each song exactly once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from musgenre.core.errors import ParameterError
from musgenre.models.classifier import GenreClassifier
from musgenre.models.inference import batch_size_for, fused
from musgenre.scale.batches import predict_batch
from musgenre.scale.decoding import decode_table
from musgenre.scale.dependencies import needed
from musgenre.scale.options import CollectionOptions, CollectionReport
from musgenre.scale.output import Output
from musgenre.scale.schema import revision_of, schema_of, table_of
from musgenre.scale.sources import Source, hashed, refuse_repeats, source_of

if TYPE_CHECKING:
    import pyarrow as pa


_KEEPING_MEMORY = {"env_vars": {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}}
"""Has a process on Linux keep the memory that it will need for the next songs. Otherwise it gives it back to the system
after each batch and takes it again page by page. Other systems know no such words."""

_KEEPING_PROCESSES = {"idle_worker_killing_time_threshold_ms": 600_000}
"""Has Ray keep the process that writes until the next file is due. Otherwise it ends it after a second, and starting
another costs as much as dozens of songs."""


def predict_collection(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | GenreClassifier | None = None,
    id_column: str = "path",
    **options: Any,
) -> CollectionReport:
    """Predicts every song of a collection with Ray Data, and writes one row a song as a Parquet dataset.

    The same call goes on where another was cut off, by Ctrl-C, the loss of machines or of the program that called it,
    and adds the rows of songs that are new. A song that cannot be read gets a row with its ``error``. It runs on the
    Ray that the program is connected to or that ``RAY_ADDRESS`` names, else on one that it starts on this machine and
    ends again. On several machines both places must be where all of them see them, and musgenre be installed on each.

    Args:
        source: A folder, which is searched at any depth; a pattern such as ``s3://bucket/**/*.mp3``; or a manifest
            (``.parquet``, ``.csv``), whose column ``path`` holds URIs or paths.
        output: A new folder or one that an earlier run wrote to, local or a URI.
        model: What :meth:`~musgenre.GenreClassifier.from_pretrained` takes, or a classifier.
        id_column: The column of a manifest that names the songs. Else a song's id is its path within the source.
        **options: Fields of :class:`~musgenre.scale.CollectionOptions` by name.

    Returns:
        How many songs there are, and what became of them.

    Raises:
        DatasetError: The source is empty or has an id twice; the output holds something else or rows of another model;
            or not every song has one row in the end.
        ParameterError: An option is unknown or out of range, or the extra ``scale`` is not installed.
        WeightsError, ConfigError, UnknownNameError, PluginError: As ``from_pretrained``.
    """
    begun, chosen = time.perf_counter(), CollectionOptions.of(options)
    songs = source_of(source, id_column=id_column, filesystem=chosen.filesystem)
    classifier = model if isinstance(model, GenreClassifier) else GenreClassifier.from_pretrained(model, device="cpu")
    schema = schema_of(
        classifier.config,
        revision=revision_of(classifier),
        embedding_size=classifier.embedding_size if chosen.embedding else None,
        windows=chosen.windows,
    )
    place = Output(output, schema, filesystem=chosen.output_filesystem)
    place.check()
    hashes = [hashed(batch["id"].to_pylist()) for batch in songs.batches()]
    refuse_repeats(songs, hashes)
    planned = np.concatenate(hashes)
    present, failed = place.present(), 0
    if not chosen.dry_run:
        place.claim(songs)
        place.settle()
        with _connected():
            _Pipeline(songs, place, classifier=classifier, options=chosen).run()
        failed = place.verify(planned)
    predicted = 0 if chosen.dry_run else place.present() - present
    told = f"songs     {planned.size} in {os.fspath(source)}\n{_plan(place, classifier, options=chosen)}"
    seconds = time.perf_counter() - begun
    return CollectionReport(place.place, planned.size, present, predicted, failed, seconds, told)


class _Pipeline:
    """The steps from ids to rows.

    A block goes through each step as a whole: the rows of a block depend on nothing but the block before, however often
    and wherever Ray repeats a step, so that no row is lost or doubled by it.
    """

    def __init__(
        self, songs: Source, place: Output, *, classifier: GenreClassifier, options: CollectionOptions
    ) -> None:
        self.place = place
        self.options = options
        shared = {"filesystem": songs.filesystem, "batch_size": options.batch_size}
        shared |= {"embedding": options.embedding, "windows": options.windows}
        self.told = {"classifier": classifier, "schema": place.schema, "options": shared}
        self.decoding = {"filesystem": songs.filesystem, "reading": classifier.reading}
        self.decoding |= {"sample_rate": classifier.config.audio.sample_rate, "limit_bytes": options.block_bytes}

    def run(self) -> None:
        """Writes a row for each song that has none."""
        ray, data = needed("ray"), needed("ray.data")
        cluster = ray.cluster_resources()
        gpus, cpus = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 0))
        if cpus < 1:
            raise ParameterError("Ray has no CPU that could decode; start it with at least num_cpus=1.")
        most = self.options.workers or gpus or cpus
        with data.DataContext.current(self._context(data, workers=most)):
            songs = data.read_parquet(self.place.songs, filesystem=self.place.filesystem)
            songs = songs.repartition(target_num_rows_per_block=self.options.songs_per_block)
            songs = songs.map_batches(
                partial(decode_table, options=self.decoding),
                batch_size=None,
                batch_format="pyarrow",
            )
            songs = songs.map_batches(
                _Predictor,
                fn_constructor_kwargs=self.told,
                # A whole block. With GPUs Ray wants a number, and may join blocks that have fewer songs.
                batch_size=self.options.songs_per_block if gpus else None,
                batch_format="pyarrow",
                # The CPUs are the decoders'. Actors that counted as well would leave none where there are few.
                num_cpus=0,
                num_gpus=1 if gpus else 0,
                compute=data.ActorPoolStrategy(size=most),
            )
            songs.write_parquet(
                self.place.path,
                filesystem=self.place.filesystem,
                min_rows_per_file=self.options.songs_per_file,
                schema=self.place.schema,
                # Writing waits more than it computes, and Ray would keep one CPU of the decoders' for it.
                ray_remote_args={"num_cpus": 0},
            )

    def _context(self, data: Any, *, workers: int) -> Any:
        context = data.DataContext.get_current().copy()
        # More than any block has, so that Ray never divides one: where it did would depend on what was in it.
        context.target_max_block_size = 2 * self.options.block_bytes
        # The second way of reading Parquet starts a dozen processes for the sake of a list of songs.
        context.use_datasource_v2 = False
        # So that samples do not wait by the gigabyte where decoding is faster than the network. A worker has a block
        # that is being made, one that waits and one that is heard; of the rest Ray keeps a share for each other step.
        context.execution_options.resource_limits = data.ExecutionResources.for_limits(
            object_store_memory=4 * self.options.block_bytes * workers
        )
        context.enable_progress_bars = self.options.progress
        context.checkpoint_config = needed("ray.data.checkpoint").CheckpointConfig(
            "id",
            self.place.done,
            override_filesystem=self.place.filesystem,
            delete_checkpoint_on_success=False,
        )
        return context


class _Predictor:
    """An actor with the network, on a GPU where there is one."""

    def __init__(self, classifier: GenreClassifier, schema: pa.Schema, *, options: dict[str, Any]) -> None:
        import torch

        self.classifier = GenreClassifier(fused(classifier.network), classifier.config, reading=classifier.reading)
        self.schema = schema
        self.options = options
        if self.classifier.device.type == "cpu":
            torch.set_num_threads(1)  # there is an actor for each core

    def __call__(self, table: pa.Table) -> pa.Table:
        columns = {name: table[name].to_pylist() for name in ("id", "path", "error", "seconds")}
        columns["samples"] = [
            np.frombuffer(one.as_buffer(), np.float32) if one.is_valid else None for one in table["samples"]
        ]
        return table_of(predict_batch(columns, classifier=self.classifier, **self.options), self.schema)


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """Connects to Ray, unless the program is connected already."""
    ray = needed("ray")
    if ray.is_initialized():
        yield
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, runtime_env=_KEEPING_MEMORY)
    else:
        from joblib import cpu_count  # type: ignore[import-untyped]

        ray.init(
            "local",
            num_cpus=cpu_count(),  # those that this process may use; Ray would count those of the machine
            include_dashboard=False,
            log_to_driver=False,
            runtime_env=_KEEPING_MEMORY,
            _system_config=_KEEPING_PROCESSES,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _plan(place: Output, classifier: GenreClassifier, *, options: CollectionOptions) -> str:
    revision = place.schema.metadata[b"musgenre.revision"].decode()
    windows = options.batch_size or f"{batch_size_for(classifier.device, is_shared=False)} (64 on a GPU)"
    workers = options.workers or "one actor a GPU, or one a CPU where there is none"
    return "\n".join(
        [
            f"done      {place.present()} have a row in {place.place}",
            f"model     {classifier.config.name}, revision {revision}",
            f"decoding  tasks of {options.songs_per_block} songs, {options.block_bytes / 2**20:.0f} MiB or less",
            f"network   {workers}; {windows} windows at a time",
            f"rows      {', '.join(place.schema.names)}; {options.songs_per_file} or more a Parquet file",
        ]
    )
