"""Options of the commands agree with the dataclasses and functions that they are passed to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import typer.main
from typer.testing import CliRunner

from musgenre import Augmentation, FinetuneConfig, ReadOptions, RunOptions
from musgenre.cli.main import app
from musgenre.scale import CollectionOptions, CollectionReport

COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands

OPTIONS: dict[tuple[str, type], dict[str, str]] = {
    ("predict", ReadOptions): {
        "max_duration_seconds": "max_duration",
        "max_channels": "max_channels",
        "max_bytes": "max_bytes",
        "decode": "decode",
        "timeout_seconds": "decode_timeout",
    },
    ("tag", CollectionOptions): {
        name: name
        for name in (
            *("embedding", "windows", "batch_size", "workers", "songs_per_block", "block_bytes"),
            *("songs_per_file", "progress", "dry_run"),
        )
    },
    ("finetune", RunOptions): {"directory": "output", "resume": "resume", "devices": "devices", "workers": "workers"},
    ("finetune", FinetuneConfig): {
        "head_epochs": "epochs",
        "epochs": "epochs",
        "freeze": "freeze",
        "seed": "seed",
    },
    ("finetune", Augmentation): {},
}
"""Option of each field of the dataclasses."""

PYTHON_ONLY: dict[type, set[str]] = {
    ReadOptions: set(),
    CollectionOptions: {"filesystem", "output_filesystem"},
    RunOptions: {"accelerator", "num_nodes", "strategy", "progress", "callbacks", "loggers", "trainer"},
    FinetuneConfig: {
        *("audio", "hidden", "dropout", "head_learning_rate", "learning_rate", "gradual", "rate_decay"),
        *("optimizer", "weight_decay", "schedule", "warmup", "label_smoothing", "augmentation", "views"),
        *("batch_size", "windows_per_track", "balanced", "class_weights", "patience", "cache", "precision"),
        *("allow_leakage", "name"),
    },
    Augmentation: {field.name for field in dataclasses.fields(Augmentation)},
}
"""Fields without an option. The documentation refers to the dataclasses for them."""

FROM_PRESET = {"head_epochs", "epochs", "freeze"}
"""Fields whose option has no default, so that a preset can set them; without a preset the field's default applies."""


def _parameter(command: str, name: str) -> click.Parameter:
    return next(parameter for parameter in COMMANDS[command].params if parameter.name == name)


@pytest.mark.parametrize(("command", "options"), OPTIONS, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_has_an_option_with_its_default(command, options):
    names = OPTIONS[command, options]
    fields = {field.name: field for field in dataclasses.fields(options)}
    assert set(fields) == set(names) | PYTHON_ONLY[options]
    assert not set(names) & PYTHON_ONLY[options]
    for field, name in names.items():
        parameter = _parameter(command, name)
        if field == "directory":
            assert parameter.required
        elif field in FROM_PRESET:
            assert parameter.default is None
            assert parameter.show_default == f"that of the start or preset, or {fields[field].default}"
        elif field == "devices":
            assert parameter.default == str(fields[field].default)
        else:
            assert parameter.default == fields[field].default, field


def _invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


class TestFinetune:
    @pytest.fixture
    def calls(self, monkeypatch) -> list[dict[str, Any]]:
        """Keyword arguments of the calls of ``finetune``, which is replaced."""
        calls: list[dict[str, Any]] = []
        classifier = SimpleNamespace(config=SimpleNamespace(scores={"valid_accuracy": 0.5}))

        def finetune(train, **options):
            calls.append(options)
            return SimpleNamespace(classifier=classifier, plot=lambda _: None)

        monkeypatch.setattr("musgenre.training.finetune.finetune", finetune)
        return calls

    def test_defaults_leave_the_recipe_to_the_library(self, calls, genre_folder, tmp_path):
        printed = _invoke("finetune", genre_folder, "--output", tmp_path / "model")
        (options,) = calls
        assert options.pop("valid").labels == ("drone", "hiss")
        expected = {"start": "default", "resume": False, "seed": 0, "devices": 1, "workers": 0}
        assert options == {"directory": tmp_path / "model", **expected}
        assert "validation accuracy 50.0%" in printed

    def test_every_option_is_passed(self, calls, genre_folder, tmp_path):
        arguments = {
            "--preset": "paper",
            "--backbone": "vgg16",
            "--weights": "none",
            "--freeze": "3",
            "--epochs": 7,
            "--seed": 5,
            "--devices": "auto",
            "--workers": 2,
        }
        flat = [text for pair in arguments.items() for text in pair]
        _invoke("finetune", genre_folder, "--output", tmp_path / "model", *flat)
        (options,) = calls
        backbone = options.pop("backbone")
        assert (backbone.name, backbone.options) == ("vgg16", {"weights": None})
        expected = {"preset": "paper", "freeze": 3, "head_epochs": 7, "epochs": 7, "seed": 5}
        expected |= {"devices": "auto", "workers": 2}
        assert expected.items() <= options.items()
        assert "start" not in options

    @pytest.mark.parametrize("options", [("--backbone", "vgg16"), ("--preset", "paper"), ("--start", "my-model")])
    def test_the_default_model_is_not_the_start(self, calls, genre_folder, tmp_path, options):
        _invoke("finetune", genre_folder, "--output", tmp_path / "model", *options)
        assert calls[0].get("start") == (options[1] if options[0] == "--start" else None)

    def test_freeze_accepts_a_name(self, calls, genre_folder, tmp_path):
        _invoke("finetune", genre_folder, "--output", tmp_path / "model", "--freeze", "all")
        assert calls[0]["freeze"] == "all"


def test_tag_passes_every_option(monkeypatch):
    calls: list[tuple[tuple[object, ...], dict[str, Any]]] = []

    def predict_collection(*arguments, **options):
        calls.append((arguments, options))
        return CollectionReport("tags", songs=1, present=0, predicted=0, failed=0, seconds=0.0, plan="the plan")

    monkeypatch.setattr("musgenre.scale.collection.predict_collection", predict_collection)
    numbers = {"batch_size": 3, "workers": 2, "songs_per_block": 5, "block_bytes": 100, "songs_per_file": 7}
    flat = [text for name, value in numbers.items() for text in (f"--{name.replace('_', '-')}", value)]
    flags = ("--embedding", "--windows", "--no-progress", "--dry-run")
    printed = _invoke("tag", "music", "--output", "tags", "--model", "m", "--id-column", "id", *flat, *flags)
    expected = {"model": "m", "id_column": "id", "embedding": True, "windows": True, "progress": False, "dry_run": True}
    assert calls == [(("music", "tags"), {**expected, **numbers})]
    assert printed == "the plan\n"


def test_predict_passes_the_input_limits(monkeypatch, tmp_path):
    readings: list[ReadOptions] = []

    class Classifier:
        labels = ("drone", "hiss")

        def predict_iter(self, paths, *, on_error):
            return iter(())

    def from_pretrained(model, *, reading):
        readings.append(reading)
        return Classifier()

    monkeypatch.setattr("musgenre.models.classifier.GenreClassifier.from_pretrained", from_pretrained)
    limits = ("--max-duration", 3, "--max-channels", 2, "--max-bytes", 1_000, "--decode", "subprocess")
    _invoke("predict", Path("song.wav"), *limits, "--decode-timeout", 1.5)
    _invoke("predict", Path("song.wav"))
    assert readings == [ReadOptions(3.0, 2, 1_000, "subprocess", 1.5), ReadOptions()]
