"""Prediction of a collection with Ray Data: tasks decode, actors run the network, and each song gets one row."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from musgenre.core.errors import ParameterError
from musgenre.models.classifier import GenreClassifier
from musgenre.models.inference import batch_size_for, fused
from musgenre.scale.batches import predict_batch
from musgenre.scale.decoding import decode_table
from musgenre.scale.dependencies import require
from musgenre.scale.options import CollectionOptions, CollectionReport
from musgenre.scale.output import Output
from musgenre.scale.schema import collection_schema, model_revision, to_table
from musgenre.scale.sources import Source, check_unique_ids, hash_ids, list_songs

if TYPE_CHECKING:
    import pyarrow as pa

_WORKER_ENVIRONMENT = {"env_vars": {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}}
"""Makes glibc keep the memory of a batch for the next one in Ray's workers, instead of returning it to the system and
requesting it again page by page. Ignored without glibc."""

_SYSTEM_CONFIG = {"idle_worker_killing_time_threshold_ms": 600_000}
"""Makes Ray keep the idle process that writes files until the next file. By default, Ray ends it after a second, and
starting another one takes as long as dozens of songs."""


def predict_collection(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | GenreClassifier | None = None,
    id_column: str = "path",
    embedding: bool = False,
    windows: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    songs_per_block: int = 4,
    block_bytes: int = 128 * 2**20,
    songs_per_file: int = 1_000,
    filesystem: Any = None,
    output_filesystem: Any = None,
    progress: bool = True,
    dry_run: bool = False,
) -> CollectionReport:
    """Predicts all songs of a collection with Ray Data, and writes one row per song to a Parquet dataset.

    Calling it again resumes an interrupted run (Ctrl-C, lost machines, a killed program), and adds rows for new songs.
    Songs that cannot be read get a row with an ``error``. The function uses the Ray cluster that the program is
    connected to or that ``RAY_ADDRESS`` names; otherwise it starts Ray on this machine and stops it at the end. On a
    cluster, all machines must have access to the source and the output, and have musgenre installed.

    Args:
        source: A folder, which is searched at any depth; a pattern such as ``s3://bucket/**/*.mp3``; or a manifest
            (``.parquet``, ``.csv``), whose column ``path`` holds URIs or paths.
        output: A new folder or one that an earlier run wrote to, as a path or URI.
        model: A classifier, or the argument of :meth:`~musgenre.GenreClassifier.from_pretrained`.
        id_column: The column of a manifest that holds the ids. Without a manifest, a song's id is its path within the
            source.
        embedding: Whether each row holds the song's embedding, the mean of the backbone's output over its windows.
        windows: Whether each row holds the probabilities of each window.
        batch_size: Number of windows in a batch; by default 30 s of audio on a CPU, 64 on a GPU.
        workers: Maximum number of actors with the network; by default one per GPU, or one per CPU without GPUs.
        songs_per_block: Number of songs in a block, which one task decodes and one call of the network predicts.
        block_bytes: Maximum size of the decoded samples of a block. Songs beyond it are decoded block by block by the
            actor. Decoding a block takes up to twice this memory.
        songs_per_file: Minimum number of songs in a Parquet file. As many may have to be predicted again after a kill.
        filesystem: PyArrow's or fsspec's file system of the source; by default that of its URI, or the local disk.
        output_filesystem: File system of the output, likewise.
        progress: Whether Ray shows progress bars.
        dry_run: Whether only to check the source and the output, and to return the plan.

    Returns:
        The numbers of songs and rows, and the plan of the run.

    Raises:
        DatasetError: The source is empty or repeats an id; the output holds something else or rows of another model;
            or some song does not have exactly one row at the end.
        ParameterError: An option is out of range, or the extra ``scale`` is not installed.
        WeightsError, ConfigError, UnknownNameError, PluginError: As ``from_pretrained``.
    """
    begun = time.perf_counter()
    options = CollectionOptions(
        embedding=embedding,
        windows=windows,
        batch_size=batch_size,
        workers=workers,
        songs_per_block=songs_per_block,
        block_bytes=block_bytes,
        songs_per_file=songs_per_file,
        filesystem=filesystem,
        output_filesystem=output_filesystem,
        progress=progress,
        dry_run=dry_run,
    )
    songs = list_songs(source, id_column=id_column, filesystem=filesystem)
    classifier = model if isinstance(model, GenreClassifier) else GenreClassifier.from_pretrained(model, device="cpu")
    schema = collection_schema(
        classifier.config,
        revision=model_revision(classifier),
        embedding_size=classifier.embedding_size if embedding else None,
        windows=windows,
    )
    dataset = Output(output, schema, filesystem=output_filesystem)
    dataset.check()
    hashes = [hash_ids(batch["id"].to_pylist()) for batch in songs.batches()]
    check_unique_ids(songs, hashes)
    planned = np.concatenate(hashes)
    present = dataset.count_done()
    failed = predicted = 0
    if not dry_run:
        dataset.prepare(songs)
        dataset.repair_checkpoint()
        _run(_Pipeline(songs, dataset, classifier=classifier, options=options))
        failed = dataset.verify(planned)
        predicted = dataset.count_done() - present
    plan = f"songs     {planned.size} in {os.fspath(source)}\n{_plan(dataset, classifier, options=options)}"
    seconds = time.perf_counter() - begun
    return CollectionReport(dataset.location, planned.size, present, predicted, failed, seconds, plan)


class _Pipeline:
    """The steps from the list of songs to the rows.

    The rows of a block depend on the block only, however often and wherever Ray repeats a step. Therefore no row is
    lost or repeated.
    """

    def __init__(
        self, songs: Source, output: Output, *, classifier: GenreClassifier, options: CollectionOptions
    ) -> None:
        self.output = output
        self.options = options
        predicting = {"filesystem": songs.filesystem, "batch_size": options.batch_size}
        predicting |= {"embedding": options.embedding, "windows": options.windows}
        self.predicting = {"classifier": classifier, "schema": output.schema, "options": predicting}
        self.decoding = {"filesystem": songs.filesystem, "reading": classifier.reading}
        self.decoding |= {"sample_rate": classifier.config.audio.sample_rate, "limit_bytes": options.block_bytes}

    def run(self) -> None:
        """Writes a row for each song that has none."""
        ray, data = require("ray"), require("ray.data")
        cluster = ray.cluster_resources()
        gpus, cpus = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 0))
        if cpus < 1:
            raise ParameterError("Ray has no CPU for decoding; start it with at least num_cpus=1.")
        workers = self.options.workers or gpus or cpus
        with data.DataContext.current(self._context(data, workers=workers)):
            songs = data.read_parquet(self.output.songs, filesystem=self.output.filesystem)
            songs = songs.repartition(target_num_rows_per_block=self.options.songs_per_block)
            songs = songs.map_batches(
                partial(decode_table, options=self.decoding),
                batch_format="pyarrow",
            )
            songs = songs.map_batches(
                _Predictor,
                fn_constructor_kwargs=self.predicting,
                # None is a complete block. With GPUs Ray requires a number, and may join blocks with fewer songs.
                batch_size=self.options.songs_per_block if gpus else None,
                batch_format="pyarrow",
                # The CPUs are for decoding. If actors counted as well, none would be left on a small machine.
                num_cpus=0,
                num_gpus=1 if gpus else 0,
                compute=data.ActorPoolStrategy(size=workers),
            )
            songs.write_parquet(
                self.output.path,
                filesystem=self.output.filesystem,
                min_rows_per_file=self.options.songs_per_file,
                schema=self.output.schema,
                # Writing mostly waits; Ray would reserve one of the CPUs for decoding.
                ray_remote_args={"num_cpus": 0},
            )

    def _context(self, data: Any, *, workers: int) -> Any:
        context = data.DataContext.get_current().copy()
        # Above the size of any block, so that Ray never splits a block depending on its content.
        context.target_max_block_size = 2 * self.options.block_bytes
        # The second version of reading Parquet starts a dozen processes, for a list of songs.
        context.use_datasource_v2 = False
        # Limits the memory for samples if decoding is faster than the network. For each worker, one block is being
        # decoded, one waits and one is being predicted; Ray reserves a share of the rest for each other step.
        context.execution_options.resource_limits = data.ExecutionResources.for_limits(
            object_store_memory=4 * self.options.block_bytes * workers
        )
        context.enable_progress_bars = self.options.progress
        context.checkpoint_config = require("ray.data.checkpoint").CheckpointConfig(
            "id",
            self.output.done,
            override_filesystem=self.output.filesystem,
            delete_checkpoint_on_success=False,
        )
        return context


class _Predictor:
    """Actor with the network, on a GPU if there is one."""

    def __init__(self, classifier: GenreClassifier, schema: pa.Schema, *, options: dict[str, Any]) -> None:
        import torch

        self.classifier = GenreClassifier(fused(classifier.network), classifier.config, reading=classifier.reading)
        self.schema = schema
        self.options = options
        if self.classifier.device.type == "cpu":
            torch.set_num_threads(1)  # there is one actor per core

    def __call__(self, table: pa.Table) -> pa.Table:
        columns = {name: table[name].to_pylist() for name in ("id", "path", "error", "seconds")}
        columns["samples"] = [
            np.frombuffer(one.as_buffer(), np.float32) if one.is_valid else None for one in table["samples"]
        ]
        return to_table(predict_batch(columns, classifier=self.classifier, **self.options), self.schema)


def _run(pipeline: _Pipeline) -> None:
    """Runs a pipeline on the current connection to Ray, or on a temporary one if there is none."""
    ray = require("ray")
    if ray.is_initialized():
        pipeline.run()
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, runtime_env=_WORKER_ENVIRONMENT)
    else:
        _start_ray(ray)
    try:
        pipeline.run()
    finally:
        ray.shutdown()


def _start_ray(ray: Any) -> None:
    """Starts Ray on this machine. ``_system_config`` is private to Ray, and is used only here."""
    from joblib import cpu_count  # type: ignore[import-untyped]

    ray.init(
        "local",
        num_cpus=cpu_count(),  # those available to this process; Ray would count those of the machine
        include_dashboard=False,
        log_to_driver=False,
        runtime_env=_WORKER_ENVIRONMENT,
        _system_config=_SYSTEM_CONFIG,
    )


def _plan(output: Output, classifier: GenreClassifier, *, options: CollectionOptions) -> str:
    revision = output.schema.metadata[b"musgenre.revision"].decode()
    seconds = classifier.config.audio.window_seconds
    default = batch_size_for(classifier.device, window_seconds=seconds, is_shared=False)
    windows = options.batch_size or f"{default} (64 on a GPU)"
    workers = options.workers or "one actor per GPU, or per CPU without GPUs"
    return "\n".join(
        [
            f"done      {output.count_done()} have a row in {output.location}",
            f"model     {classifier.config.name}, revision {revision}",
            f"decoding  tasks of {options.songs_per_block} songs, at most {options.block_bytes / 2**20:.0f} MiB",
            f"network   {workers}; {windows} windows per batch",
            f"rows      {', '.join(output.schema.names)}; at least {options.songs_per_file} per Parquet file",
        ]
    )
