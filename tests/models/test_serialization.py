from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ConfigError, ParameterError, UnknownNameError, WeightsError
from musgenre.models import serialization
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork
from musgenre.models.serialization import CONFIG_FILE, WEIGHTS_FILE

CONFIG = ModelConfig(
    "tiny",
    ("blues", "jazz", "ロック"),
    AudioSpec(sample_rate=8000, window_seconds=1.0, hop_seconds=0.5),
    Component("logmel", {"n_fft": 512, "hop_length": 200, "n_mels": 40}),
    Component("vgg16-slim", {"width": 0.03, "dense_units": 12}),
    hidden=(6,),
    dropout=0.25,
    split="trained on nothing",
    scores={"valid_accuracy": 1 / 3},
    library_version="0.0.1",
)


def _network(seed: int) -> GenreNetwork:
    torch.manual_seed(seed)
    network = GenreNetwork.from_config(CONFIG)
    network(torch.randn(4, 8000))  # updates the statistics of batch normalisation
    return network.eval()


@pytest.fixture(scope="module")
def network() -> GenreNetwork:
    return _network(0)


@pytest.fixture
def model(tmp_path: Path, network: GenreNetwork) -> Path:
    directory = tmp_path / "model"
    serialization.save(directory, config=CONFIG, network=network)
    return directory


def _equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    pairs = json.loads(path.read_text(encoding="utf-8"))
    change(pairs)
    path.write_text(json.dumps(pairs), encoding="utf-8")


class TestRoundTrip:
    def test_weights_and_outputs_are_identical(self, model, network):
        config, loaded = serialization.load(model)
        waveforms = torch.randn(2, 8000)
        assert config == CONFIG
        assert _equal(loaded, network)
        with torch.inference_mode():
            assert torch.equal(loaded.eval()(waveforms), network(waveforms))

    def test_writes_two_readable_files(self, model):
        assert sorted(path.name for path in model.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
        if os.name == "posix":
            assert all(path.stat().st_mode & 0o777 == 0o644 for path in model.iterdir())
        assert "ロック" in (model / CONFIG_FILE).read_text(encoding="utf-8")

    def test_memory_layout_does_not_matter(self, tmp_path):
        channels_last = _network(0).to(memory_format=torch.channels_last)
        serialization.save(tmp_path, config=CONFIG, network=channels_last)
        assert _equal(serialization.load(tmp_path)[1], channels_last)

    def test_saving_again_replaces(self, model):
        other = _network(1)
        serialization.save(model, config=replace(CONFIG, name="second"), network=other)
        config, loaded = serialization.load(model)
        assert config.name == "second"
        assert _equal(loaded, other)

    def test_creates_directories(self, tmp_path, network):
        serialization.save(tmp_path / "a" / "b", config=CONFIG, network=network)
        assert serialization.load(tmp_path / "a" / "b")[0] == CONFIG

    def test_source_of_the_initial_weights_is_not_saved(self, tmp_path, request):
        class Tied(Backbone):
            def __init__(self, *, in_channels: int, weights: str | None = "somewhere") -> None:
                super().__init__()
                self.one = nn.Linear(in_channels, in_channels)
                self.other = nn.Linear(in_channels, in_channels)
                self.other.weight = self.one.weight
                self.out_features = in_channels
                self.expects = InputSpec(channels=in_channels)
                self.source = weights

            def stages(self):
                return [self.one, self.other]

            def forward(self, feature):
                return self.other(self.one(feature.mean(dim=(-2, -1))))

        BACKBONES.register("tied")(Tied)
        request.addfinalizer(lambda: BACKBONES.unregister("tied"))
        config = replace(CONFIG, backbone=Component("tied", {"weights": "file.pth"}))
        network = GenreNetwork.from_config(config, pretrained=True)
        assert network.backbone.source == "file.pth"
        serialization.save(tmp_path, config=config, network=network)
        read, loaded = serialization.load(tmp_path)
        assert read == replace(config, backbone=Component("tied"))
        assert loaded.backbone.source is None
        assert _equal(loaded, network)
        assert loaded.backbone.one.weight is loaded.backbone.other.weight

    def test_half_precision_is_converted_to_single(self, model, network):
        path = model / WEIGHTS_FILE
        half = {name: t.half() if t.is_floating_point() else t for name, t in load_file(path).items()}
        save_file(half, path)
        _, loaded = serialization.load(model)
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert all(torch.equal(p, half[name].float()) for name, p in loaded.named_parameters())
        torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=1e-3, atol=1e-4)


class TestFailedSave:
    def _write_partially(self, tensors, path, **_):
        Path(path).write_bytes(b"partial")
        raise OSError("No space left on device")

    def test_failure_of_the_weights_preserves_the_previous_model(self, model, network, monkeypatch):
        monkeypatch.setattr(serialization, "save_file", self._write_partially)
        with pytest.raises(WeightsError, match=r"cannot be written to .*No space left") as caught:
            serialization.save(model, config=replace(CONFIG, name="second"), network=_network(1))
        assert isinstance(caught.value, OSError)
        self._check_unchanged(model, network)

    def test_failure_of_the_configuration_preserves_the_previous_model(self, model, network, monkeypatch):
        def broken(path, *_, **__):
            path.write_bytes(b"{")
            raise OSError("No space left on device")

        monkeypatch.setattr(Path, "write_text", broken)
        with pytest.raises(WeightsError, match="No space left"):
            serialization.save(model, config=replace(CONFIG, name="second"), network=_network(1))
        self._check_unchanged(model, network)

    def test_failure_in_a_new_directory_leaves_no_file(self, tmp_path, network, monkeypatch):
        monkeypatch.setattr(serialization, "save_file", self._write_partially)
        with pytest.raises(WeightsError):
            serialization.save(tmp_path / "new", config=CONFIG, network=network)
        assert list((tmp_path / "new").iterdir()) == []

    def _check_unchanged(self, model, network):
        assert sorted(path.name for path in model.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
        config, loaded = serialization.load(model)
        assert config == CONFIG
        assert _equal(loaded, network)

    def test_directory_is_a_file(self, tmp_path, network):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(WeightsError, match="cannot be written"):
            serialization.save(tmp_path / "file", config=CONFIG, network=network)
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.parametrize(
        "changes",
        [
            {"scores": {"valid_accuracy": float("nan")}},
            {"feature": Component("logmel", {"f_max_hz": float("inf")})},
            {"backbone": Component("vgg16-slim", {"width": torch.tensor(0.03)})},
            {"backbone": Component("vgg16-slim", {"width": Path("a")})},
        ],
    )
    def test_options_without_json_type(self, changes, tmp_path, network):
        with pytest.raises(ConfigError, match="that JSON cannot represent"):
            serialization.save(tmp_path / "new", config=replace(CONFIG, **changes), network=network)
        assert not (tmp_path / "new").exists()


class TestConfigFile:
    def test_newer_format(self, model):
        _edit(model / CONFIG_FILE, lambda pairs: pairs.update(format_version=3, library_version="9.1", novelty=1))
        with pytest.raises(
            ConfigError, match=r"format 3, of musgenre 9\.1; .* up to 2: .*pip install --upgrade musgenre"
        ):
            serialization.load(model)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not JSON"),
            ("{", "is not JSON"),
            ("[" * 100_000, "is not JSON"),
            ("\0\0", "is not JSON"),
            ("[]", "expected an object"),
            ("null", "expected an object"),
            ("3", "expected an object"),
        ],
        ids=["empty", "cut", "deep", "zeros", "list", "null", "number"],
    )
    def test_not_a_json_object(self, model, text, message):
        (model / CONFIG_FILE).write_text(text)
        with pytest.raises(ConfigError, match=rf"config\.json'.*{message}"):
            serialization.load(model)

    def test_not_utf8(self, model):
        (model / CONFIG_FILE).write_bytes(b"\xff\xfe{}")
        with pytest.raises(ConfigError, match="is not JSON"):
            serialization.load(model)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda pairs: pairs.update(labls=1), "labls"),
            (lambda pairs: pairs.pop("labels"), "labels"),
            (lambda pairs: pairs.update(labels="rock"), "labels"),
            (lambda pairs: pairs["audio"].update(sample_rate=-1), "sample_rate"),
            (lambda pairs: pairs.update(format_version="1"), "format_version"),
            (lambda pairs: pairs["backbone"]["options"].update(widht=1), "widht"),
        ],
    )
    def test_message_names_invalid_entries(self, model, change, message):
        _edit(model / CONFIG_FILE, change)
        with pytest.raises(ConfigError, match=message):
            serialization.load(model)

    def test_only_registered_components_are_built(self, model):
        _edit(model / CONFIG_FILE, lambda pairs: pairs["backbone"].update(name="os:system"))
        with pytest.raises(UnknownNameError, match="os:system"):
            serialization.load(model)

    def test_missing(self, model):
        (model / CONFIG_FILE).unlink()
        with pytest.raises(WeightsError, match=r"contains no model: config\.json is missing"):
            serialization.load(model)

    def test_directory_instead_of_a_file(self, model):
        (model / CONFIG_FILE).unlink()
        (model / CONFIG_FILE).mkdir()
        with pytest.raises(WeightsError, match="cannot be read"):
            serialization.load(model)


class TestWeightsFile:
    @pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.999])
    def test_truncated(self, model, share):
        path = model / WEIGHTS_FILE
        with path.open("r+b") as file:
            file.truncate(int(path.stat().st_size * share))
        with pytest.raises(WeightsError, match=r"model\.safetensors' is damaged"):
            serialization.load(model)

    def test_a_pickle_is_not_executed(self, model, tmp_path):
        class Payload:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        for write in (pickle.dump, torch.save):
            with (model / WEIGHTS_FILE).open("wb") as file:
                write({"head.1.weight": Payload()}, file)
            with pytest.raises(WeightsError, match="not a safetensors file"):
                serialization.load(model)
        assert not (tmp_path / "ran").exists()

    def test_missing(self, model):
        (model / WEIGHTS_FILE).unlink()
        with pytest.raises(WeightsError, match=r"contains no weights: model\.safetensors is missing"):
            serialization.load(model)

    def test_message_names_mismatched_tensors(self, model):
        tensors = load_file(model / WEIGHTS_FILE)
        del tensors["head.1.weight"]
        tensors["head.1.wait"] = torch.zeros(2)
        tensors["head.4.bias"] = torch.zeros(10)
        save_file(tensors, model / WEIGHTS_FILE)
        with pytest.raises(WeightsError) as caught:
            serialization.load(model)
        message = str(caught.value)
        assert "missing: head.1.weight;" in message
        assert "unexpected: head.1.wait;" in message
        assert "wrong shape: head.4.bias (10,) instead of (3,)." in message
        assert str(model / WEIGHTS_FILE) in message

    def test_number_of_labels_does_not_match(self, model):
        _edit(model / CONFIG_FILE, lambda pairs: pairs["labels"].append("polka"))
        with pytest.raises(WeightsError, match=r"wrong shape: head\.4\.bias \(3,\) instead of \(4,\)"):
            serialization.load(model)


class TestLocate:
    def test_default_is_the_bundled_model(self):
        assert serialization.locate(None) == serialization.locate(serialization.DEFAULT_MODEL)
        assert serialization.locate(None).is_dir()

    @pytest.mark.parametrize("kind", [Path, str])
    def test_directory(self, kind, model):
        assert serialization.locate(kind(model)) == model

    def test_a_directory_precedes_other_interpretations(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in (serialization.DEFAULT_MODEL, "org/name"):
            (tmp_path / name).mkdir(parents=True)
            assert serialization.locate(name) == Path(name)

    @pytest.mark.parametrize(
        "name", ["nonsense", "a/b/c", "./model", "/nowhere/model", "org/na me", "../x", "org/", "ö/x"]
    )
    def test_invalid_names(self, name):
        with pytest.raises(WeightsError, match=r"There is no model .*expected a directory") as caught:
            serialization.locate(name)
        assert serialization.DEFAULT_MODEL in str(caught.value)


class TestBundledNames:
    def test_bundled_models_are_in_the_package(self):
        assert all(
            directory.is_relative_to(Path(serialization.__file__).parents[1])
            for directory in serialization.BUNDLED.values()
        )
        assert serialization.BUNDLED["yamnet-gtzan"] == serialization.BUNDLED["yamnet-gtzan-v1"]
        assert serialization.DEFAULT_MODEL in serialization.BUNDLED

    def test_alias(self, model, monkeypatch):
        monkeypatch.setattr(serialization, "BUNDLED", {"tiny-v2": model, "tiny": model})
        assert serialization.locate("tiny") == serialization.locate("tiny-v2") == model


@pytest.fixture
def named_backbone() -> Iterator[type[Backbone]]:
    """Registers a backbone with named weights: ``"somewhere"`` fills the layer with 2, a path with its length."""

    class Named(Backbone):
        named_weights = ("somewhere",)

        def __init__(self, *, in_channels: int, weights: str | None = None) -> None:
            super().__init__()
            self.layer = nn.Linear(in_channels, 4)
            self.norm = nn.BatchNorm1d(4)
            self.out_features = 4
            self.expects = InputSpec(channels=in_channels)
            self.source = weights
            if weights is not None:
                nn.init.constant_(self.layer.weight, 2.0 if weights == "somewhere" else len(weights))

        def stages(self):
            return [self.layer]

        def forward(self, feature):
            return self.norm(self.layer(feature.mean(dim=(-2, -1))))

    with BACKBONES.temporary("named-net", Named):
        yield Named


class TestHeadOnly:
    config = replace(CONFIG, backbone=Component("named-net", {"weights": "somewhere"}))

    @pytest.fixture
    def built(self, named_backbone):
        torch.manual_seed(0)
        return GenreNetwork.from_config(self.config, pretrained=True).eval()

    @pytest.fixture
    def head(self, built, tmp_path):
        serialization.save(tmp_path / "head", config=self.config, network=built, head_only=True)
        return tmp_path / "head"

    def test_contains_all_weights_except_the_backbones(self, head, built):
        names = set(load_file(head / WEIGHTS_FILE))
        assert names == {name for name in built.state_dict() if not name.startswith("backbone.")}
        assert json.loads((head / CONFIG_FILE).read_text())["backbone"]["options"] == {"weights": "somewhere"}

    def test_backbone_is_loaded_from_its_source(self, head, built):
        config, loaded = serialization.load(head)
        assert config == self.config
        assert loaded.backbone.source == "somewhere"
        head_of = {name: t for name, t in built.state_dict().items() if name.startswith("head.")}
        assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in head_of.items())
        assert torch.equal(loaded.backbone.layer.weight, built.backbone.layer.weight)

    def test_backbone_is_loaded_from_a_given_file(self, head):
        config, loaded = serialization.load(head, backbone_weights=Path("abc"))
        assert loaded.backbone.source == "abc"
        assert (loaded.backbone.layer.weight == 3).all()
        assert config == self.config
        classifier = GenreClassifier.from_pretrained(head, backbone_weights="abcd")
        assert classifier.network.backbone.source == "abcd"

    def test_saved_again_with_the_backbone(self, head, tmp_path):
        config, loaded = serialization.load(head)
        serialization.save(tmp_path / "complete", config=config, network=loaded)
        read, complete = serialization.load(tmp_path / "complete")
        assert read.backbone.options == {}
        assert complete.backbone.source is None
        assert _equal(complete, loaded)

    @pytest.mark.parametrize("source", ["/etc/passwd", "../../x.h5", "imagenet", "", 0, True, ["somewhere"], {"a": 1}])
    def test_unknown_sources_raise(self, head, source):
        _edit(head / CONFIG_FILE, lambda pairs: pairs["backbone"]["options"].update(weights=source))
        with pytest.raises(
            ConfigError, match=r"not a name of weights of the backbone 'named-net'\. Available: 'somewhere'"
        ):
            serialization.load(head)
        with pytest.raises(ConfigError, match="not a name"):
            serialization.load(head, backbone_weights="mine.h5")

    def test_a_backbone_without_named_weights(self, model):
        _edit(model / CONFIG_FILE, lambda pairs: pairs["backbone"]["options"].update(weights="audioset"))
        with pytest.raises(ConfigError, match=r"'vgg16-slim'\. Available: none"):
            serialization.load(model)

    def test_backbone_weights_of_a_complete_model(self, model):
        with pytest.raises(ParameterError, match="leave backbone_weights out"):
            serialization.load(model, backbone_weights="mine.h5")

    @pytest.mark.parametrize("options", [{}, {"weights": None}, {"weights": "my/own.pth"}])
    def test_unnamed_weights_cannot_be_left_out(self, options, built, tmp_path):
        config = replace(self.config, backbone=Component("named-net", options))
        with pytest.raises(ConfigError, match="must name them"):
            serialization.save(tmp_path / "new", config=config, network=built, head_only=True)
        assert not (tmp_path / "new").exists()

    def test_message_names_mismatched_tensors(self, head):
        tensors = load_file(head / WEIGHTS_FILE)
        tensors["backbone.layer.weight"] = torch.zeros(4, 1)
        del tensors["head.1.bias"]
        save_file(tensors, head / WEIGHTS_FILE)
        with pytest.raises(WeightsError, match=r"missing: head\.1\.bias; unexpected: backbone\.layer\.weight"):
            serialization.load(head)

    def test_missing_backbone_weights_raise(self, head):
        _edit(head / CONFIG_FILE, lambda pairs: pairs["backbone"]["options"].clear())
        with pytest.raises(WeightsError, match=r"missing: backbone\.layer\.bias"):
            serialization.load(head)
