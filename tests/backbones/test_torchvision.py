from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from musgenre.backbones.base import BACKBONES
from musgenre.backbones.torchvision import _SETTINGS, TorchvisionBackbone
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ConfigError, UnknownNameError, WeightsError
from musgenre.features.base import FEATURES
from musgenre.models.network import GenreNetwork

NAMED = ["resnet18", "mobilenet_v3_small", "efficientnet_b0"]
# Number of inputs of the output layer, according to the papers and torchvision's documentation.
WIDTHS = {"resnet18": 512, "mobilenet_v3_small": 1024, "efficientnet_b0": 1280}
# One network of each of torchvision's families, and special cases: parameters outside the blocks, a convolution as
# output layer, auxiliary outputs, another size, another normalisation. (RegNets cannot be built on "meta".)
FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
    "vit_h_14",
]


def _inputs_of(network: nn.Module, images: Tensor, output: nn.Module) -> Tensor:
    seen: list[Tensor] = []
    hook = output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network(images)
    hook.remove()
    return seen[0]


def _output_layer(network: nn.Module) -> nn.Module:
    return network.fc if hasattr(network, "fc") else network.classifier[-1]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", NAMED)
def test_equals_torchvision_before_the_output_layer(name, suffix, tmp_path):
    reference = models.get_model(name, weights=None).eval()
    for buffer in reference.buffers():  # as after training
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(reference.state_dict(), path)
    backbone = BACKBONES.build(name, {"weights": str(path)}).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        vectors = backbone(images)
    assert torch.equal(vectors, _inputs_of(reference, images, _output_layer(reference)))
    assert vectors.shape == (2, backbone.out_features) == (2, WIDTHS[name])
    assert backbone.pretrained


@pytest.mark.parametrize("name", [*NAMED, "torchvision/resnet18", "torchvision/efficientnet_v2_l"])
def test_expected_input_matches_preprocessing_of_weights(name):
    preprocessing = models.get_model_weights(name.removeprefix("torchvision/")).IMAGENET1K_V1.transforms()
    with torch.device("meta"):
        expects = BACKBONES.build(name, {"weights": None}).expects
    assert (expects.channels, expects.size) == (3, (*preprocessing.crop_size, *preprocessing.crop_size))
    assert (expects.mean, expects.std) == (tuple(preprocessing.mean), tuple(preprocessing.std))


@pytest.mark.parametrize("name", ["resnet18", "torchvision/efficientnet_v2_l", "torchvision/inception_v3"])
def test_default_feature_matches_preprocessing_of_torchvision(name):
    preprocessing = models.get_model_weights(name.removeprefix("torchvision/")).IMAGENET1K_V1.transforms()
    component = BACKBONES.get(name).default_feature
    feature = FEATURES.build(component.name, {**component.options, "sample_rate": 16_000})
    image = feature(torch.cat([torch.zeros(1, 8_000), torch.randn(1, 8_000)], dim=1))  # silence, then noise
    assert image.shape == (1, 3, *preprocessing.crop_size, *preprocessing.crop_size)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    brightness = image * std + mean  # inverts the normalisation: grey, from black to white
    assert brightness.amin() == pytest.approx(0, abs=0.01)
    assert brightness.amax() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(brightness[:, 0], brightness[:, 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", FAMILIES)
def test_stages_run_from_input_to_output_in_every_family(model):
    with torch.device("meta"):
        backbone = BACKBONES.build(f"torchvision/{model}", {"weights": None}).eval()
    stages, order = backbone.stages(), []
    for number, stage in enumerate(stages):
        for leaf in stage.modules():
            if not list(leaf.children()):
                leaf.register_forward_hook(lambda *_, number=number: order.append(number))
    vectors = backbone(torch.zeros(2, 3, *backbone.expects.size, device="meta"))
    assert vectors.shape == (2, backbone.out_features)
    in_stages = [id(parameter) for stage in stages for parameter in stage.parameters()]
    assert sorted(in_stages) == sorted(id(parameter) for parameter in backbone.parameters())
    assert order == sorted(order)
    assert set(order) == set(range(len(stages)))
    assert 4 <= len(stages) <= 40


@pytest.mark.parametrize(("name", "sizes"), [("resnet18", [1, 4, 5, 5, 5]), ("mobilenet_v3_small", None)])
def test_stages_of_well_known_networks(name, sizes):
    stages = BACKBONES.build(name, {"weights": None}).stages()
    if sizes is None:  # a first convolution, eleven blocks, a last convolution, a dense layer
        assert len(stages) == 14
    else:
        assert [sum(isinstance(m, nn.Conv2d) for m in stage.modules()) for stage in stages] == sizes


def test_settings_are_those_of_the_constructors():
    """The table of settings must follow torchvision's constructors, which the builders name in their annotations."""
    names = {"image_size", "aux_logits", "transform_input", "init_weights"}
    for model in models.list_models(module=models):
        builder = models.get_model_builder(model)
        accepted = names & set(inspect.signature(inspect.signature(builder).return_annotation).parameters)
        assert set(_SETTINGS.get(builder.__module__.rpartition(".")[2], ())) == accepted, model


class TestWeights:
    def test_files_from_2017(self, tmp_path):
        """DenseNets in such files have dots in names of layers; batch normalisation has no counter of batches."""
        state = models.densenet121(weights=None).state_dict()
        old = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): tensor
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }
        assert any("denselayer1.norm.1.weight" in name for name in old)
        torch.save(old, tmp_path / "old.pth")
        loaded = TorchvisionBackbone("densenet121", weights=str(tmp_path / "old.pth")).network.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())

    def test_auxiliary_outputs_are_ignored(self, tmp_path):
        reference = models.googlenet(weights=None, init_weights=False, aux_logits=True)
        torch.save(reference.state_dict(), tmp_path / "full.pth")
        backbone = TorchvisionBackbone("googlenet", weights=str(tmp_path / "full.pth"))
        assert not any("aux" in name for name in backbone.state_dict())
        images = torch.randn(2, 3, 64, 64)
        reference.transform_input = True  # as torchvision does for its weights
        expected = _inputs_of(reference.eval(), images, reference.fc)
        with torch.inference_mode():
            assert torch.equal(backbone.eval()(images), expected)

    def test_weights_of_another_network(self, tmp_path):
        torch.save(models.shufflenet_v2_x0_5(weights=None).state_dict(), tmp_path / "other.pth")
        with pytest.raises(
            WeightsError, match=r"not a state dict of torchvision's resnet18: missing .*layer1\.0\.conv1"
        ):
            TorchvisionBackbone("resnet18", weights=str(tmp_path / "other.pth"))

    def test_missing_file(self, tmp_path):
        with pytest.raises(WeightsError, match=r"There is no weights file .*'imagenet'"):
            TorchvisionBackbone("resnet18", weights=str(tmp_path / "nothing.pth"))

    @pytest.mark.parametrize("model", ["resnet18", "resnet50"])
    def test_imagenet_means_the_first_published_weights(self, model, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(torch.hub, "_hub_dir", None)
        requested = []

        def refuse(url, *_, **__):
            requested.append(url)
            raise OSError("unplugged")

        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
        with pytest.raises(WeightsError) as caught:
            TorchvisionBackbone(model)
        (url,) = requested
        assert url == models.get_model_weights(model).IMAGENET1K_V1.url
        for part in ("unplugged", url, str(tmp_path), f'{{"weights": "{Path(url).name}"}}', "None"):
            assert part in str(caught.value)


class TestNames:
    def test_unknown_name(self):
        with pytest.raises(UnknownNameError, match=r"no classifier of torchvision 'resnet81'. Did you mean 'resnet"):
            BACKBONES.get("torchvision/resnet81")

    @pytest.mark.parametrize("name", ["fcn_resnet50", "raft_small", "r3d_18", "quantized_resnet18", ""])
    def test_only_image_classifiers_are_accepted(self, name):
        with pytest.raises(UnknownNameError):
            BACKBONES.get(f"torchvision/{name}")

    @pytest.mark.parametrize("in_channels", [1, 4])
    def test_number_of_channels_must_be_3(self, in_channels):
        with pytest.raises(ConfigError, match=f"resnet18 expects 3 channels, got {in_channels}.*logmel-image"):
            BACKBONES.build("resnet18", {"in_channels": in_channels, "weights": None})

    def test_pickling(self):
        backbone = TorchvisionBackbone("shufflenet_v2_x0_5", weights=None).eval()
        again, images = pickle.loads(pickle.dumps(backbone)), torch.randn(1, 3, 64, 64)
        assert torch.equal(again(images), backbone(images))
        assert pickle.loads(pickle.dumps(BACKBONES.get("torchvision/resnet34"))) == BACKBONES.get(
            "torchvision/resnet34"
        )


def test_in_a_network():
    name = "torchvision/shufflenet_v2_x0_5"
    feature = Component.of(BACKBONES.get(name).default_feature)
    config = ModelConfig("m", ("jazz", "rock"), AudioSpec(16_000, 1.0, 1.0), feature, Component(name))
    assert GenreNetwork.from_config(config).eval()(torch.randn(2, 16_000)).shape == (2, 2)
