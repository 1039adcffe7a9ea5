from __future__ import annotations

import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file

from musgenre.backbones.base import BACKBONES
from musgenre.backbones.timm import TimmBackbone
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ConfigError, PluginError, UnknownNameError, WeightsError
from musgenre.features.base import FEATURES
from musgenre.models.network import GenreNetwork

pytestmark = pytest.mark.slow  # builds many networks

timm = pytest.importorskip("timm", reason="the extra musgenre[timm] is not installed")
SMALL = ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"]


@pytest.fixture
def no_hub(monkeypatch):
    """Disconnects the Hub, and returns the list of requested files."""
    requested = []

    def refuse(repo_id, filename, **_):
        requested.append(f"{repo_id}/{filename}")
        raise OSError("unplugged")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", refuse)
    return requested


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_equals_timm_before_the_output_layer(model, suffix, tmp_path):
    reference = timm.create_model(model).eval()
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(reference.state_dict(), path)
    backbone = BACKBONES.build(f"timm/{model}", {"weights": str(path)}).eval()
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        expected = reference.forward_head(reference.forward_features(images), pre_logits=True)
        assert torch.equal(backbone(images), expected)
    assert expected.shape == (2, backbone.out_features)
    assert backbone.pretrained
    assert len(backbone.stages()) >= 4


@pytest.mark.parametrize("model", SMALL)
def test_one_channel_gets_the_sum_of_the_weights_of_three(model, tmp_path):
    save_file(timm.create_model(model).state_dict(), tmp_path / "w.safetensors")
    grey = TimmBackbone(model, in_channels=1, weights=str(tmp_path / "w.safetensors")).eval()
    colour = TimmBackbone(model, weights=str(tmp_path / "w.safetensors")).eval()
    image = torch.randn(1, 1, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(grey(image), colour(image.expand(1, 3, 160, 160)), rtol=1e-3, atol=1e-4)
    assert (grey.expects.channels, grey.expects.mean) == (1, None)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "vit_base_patch16_clip_224.openai"])
def test_default_feature_matches_preprocessing_of_timm(model):
    preprocessing = timm.data.resolve_data_config(timm.get_pretrained_cfg(model).to_dict())
    component = BACKBONES.get(f"timm/{model}").default_feature
    options = {
        "size": preprocessing["input_size"][1],
        "mean": list(preprocessing["mean"]),
        "std": list(preprocessing["std"]),
    }
    assert component == Component("logmel-image", options)
    feature = FEATURES.build(component.name, {**component.options, "sample_rate": 16_000})
    assert feature(torch.randn(1, 16_000)).shape == (1, *preprocessing["input_size"])


def test_network_with_fixed_size_rejects_other_sizes():
    with pytest.raises(ConfigError, match=r"'timm/test_vit' expects 1 channel.* of 160 × 160"):
        _network("timm/test_vit", "logmel")


@pytest.mark.parametrize("feature", ["logmel", "logmel-image"])
def test_network_accepts_any_size_and_number_of_channels(feature):
    network = _network("timm/test_resnet", feature)
    assert network.eval()(torch.randn(2, 16_000)).shape == (2, 2)


def _network(backbone: str, feature: str) -> GenreNetwork:
    audio = AudioSpec(16_000, 1.0, 1.0)
    return GenreNetwork.from_config(ModelConfig("m", ("jazz", "rock"), audio, Component(feature), Component(backbone)))


class TestWeights:
    def test_published_weights_are_downloaded_from_the_hub(self, no_hub):
        with pytest.raises(WeightsError, match=r"test_vit .*'pretrained': unplugged.*\"weights\": None"):
            BACKBONES.build("timm/test_vit", {})
        assert no_hub[0].startswith("timm/test_vit.r160_in1k/")

    def test_tag_selects_the_weights(self, no_hub):
        with pytest.raises(WeightsError):
            BACKBONES.build("timm/resnet18.a2_in1k", {})
        assert no_hub[0].startswith("timm/resnet18.a2_in1k/")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda state: state.pop("blocks.0.norm1.weight"), r"Missing key.*blocks\.0\.norm1\.weight"),
            (lambda state: state.update(other=torch.zeros(1)), r"Unexpected key.*other"),
            (lambda state: state.update(cls_token=torch.zeros(1, 1, 3)), r"size mismatch for cls_token"),
            (lambda state: state.clear(), "does not hold a state dict"),
        ],
    )
    def test_mismatches_are_named(self, change, message, tmp_path, no_hub):
        state = timm.create_model("test_vit").state_dict()
        change(state)
        torch.save(state, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=f"(?s){message}"):
            TimmBackbone("test_vit", weights=str(tmp_path / "wrong.pth"))
        assert no_hub == []

    def test_missing_file(self, tmp_path):
        with pytest.raises(WeightsError, match=r"There is no weights file .*'pretrained'"):
            TimmBackbone("test_vit", weights=str(tmp_path / "nothing.pth"))

    def test_weights_are_pickled_once(self, tmp_path):
        save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
        backbone = TimmBackbone("test_vit", weights=str(tmp_path / "w.safetensors"))
        size = sum(parameter.nbytes for parameter in backbone.parameters())
        assert len(pickle.dumps(backbone)) < 1.5 * size


class TestNames:
    @pytest.mark.parametrize(
        "name", ["hf_hub:org/model", "hf-hub:org/model", "local-dir:/tmp", "resnet18.nonsense", ""]
    )
    def test_only_names_listed_by_timm_are_accepted(self, name, no_hub):
        with pytest.raises(UnknownNameError):
            BACKBONES.get(f"timm/{name}")
        assert no_hub == []

    def test_unknown_name(self):
        with pytest.raises(
            UnknownNameError, match=r"no network of timm 'resnet81'. Did you mean 'resnet.*\d{4} are available"
        ):
            BACKBONES.get("timm/resnet81")

    def test_without_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(PluginError, match=r"pip install 'musgenre\[timm\]'") as caught:
            BACKBONES.get("timm/resnet18")
        assert isinstance(caught.value.__cause__, ImportError)
        assert "timm/" in BACKBONES.names()
