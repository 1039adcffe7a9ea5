"""The mission once through: a picture network's weights from a file, fine-tuned on songs, saved, loaded, used."""

import dataclasses

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

import musgenre
from musgenre.core.config import AudioSpec, Component
from musgenre.datasets import AudioFolder, holdout
from musgenre.training.config import FinetuneConfig

pytestmark = pytest.mark.slow


def test_vgg16_is_fine_tuned_on_songs_and_comes_back_from_disk(genre_folder, tmp_path):
    torch.manual_seed(0)
    pictures = torchvision.models.vgg16(weights=None).features.state_dict()
    initial = {f"features.{name}": tensor for name, tensor in pictures.items()}
    save_file(initial, tmp_path / "vgg16.safetensors")
    train, valid = holdout(AudioFolder(genre_folder), fraction=0.25)
    config = FinetuneConfig(
        audio=AudioSpec(sample_rate=8_000, window_seconds=2.0, hop_seconds=2.0),
        head_epochs=1,
        epochs=1,
        freeze=4,
        batch_size=3,
    )
    backbone = Component("vgg16", {"weights": str(tmp_path / "vgg16.safetensors"), "top": "pool"})

    result = musgenre.finetune(train, valid=valid, backbone=backbone, config=config, progress=False)

    network = result.classifier.network
    assert [(stage.name, stage.unfrozen) for stage in result.plan] == [("head", 0), ("backbone", 1)]
    assert result.classifier.config.feature == Component("logmel-image")
    widths = [layer.out_features for layer in network.head if isinstance(layer, torch.nn.Linear)]
    assert widths == [2048, 512, 256, 128, 64, 2]
    learned = {name for name, tensor in network.backbone.state_dict().items() if not torch.equal(tensor, initial[name])}
    assert learned <= {f"features.{layer}.{kind}" for layer in (24, 26, 28) for kind in ("weight", "bias")}

    result.classifier.save_pretrained(tmp_path / "model")
    (tmp_path / "vgg16.safetensors").unlink()  # what was the beginning is no longer needed
    again = musgenre.GenreClassifier.from_pretrained(tmp_path / "model")
    assert again.config.backbone == Component("vgg16", {"top": "pool"})
    assert again.config == dataclasses.replace(result.classifier.config, backbone=again.config.backbone)
    song = valid[0].path
    before, after = result.classifier.predict(song), again.predict(song)
    np.testing.assert_array_equal(before.windows.probabilities, after.windows.probabilities)
    assert again.embed(song).shape == (512,)
