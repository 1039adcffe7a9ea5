"""Fine-tuning of VGG-16 end to end: initial weights from a file, training, saving, loading and predicting."""

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


def test_vgg16_is_fine_tuned_saved_and_loaded(genre_folder, tmp_path):
    torch.manual_seed(0)
    image_weights = torchvision.models.vgg16(weights=None).features.state_dict()
    initial = {f"features.{name}": tensor for name, tensor in image_weights.items()}
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
    changed = {name for name, tensor in network.backbone.state_dict().items() if not torch.equal(tensor, initial[name])}
    assert changed <= {f"features.{layer}.{kind}" for layer in (24, 26, 28) for kind in ("weight", "bias")}

    result.classifier.save_pretrained(tmp_path / "model")
    (tmp_path / "vgg16.safetensors").unlink()  # the saved model does not need the initial weights
    loaded = musgenre.GenreClassifier.from_pretrained(tmp_path / "model")
    assert loaded.config.backbone == Component("vgg16", {"top": "pool"})
    assert loaded.config == dataclasses.replace(result.classifier.config, backbone=loaded.config.backbone)
    song = valid[0].path
    before, after = result.classifier.predict(song), loaded.predict(song)
    np.testing.assert_array_equal(before.windows.probabilities, after.windows.probabilities)
    assert loaded.embed(song).shape == (512,)
