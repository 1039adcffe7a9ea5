from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import WeightsError
from musgenre.models.cards import CARD_FILE, card, write_card
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork

CONFIG = ModelConfig(
    "my-genres",
    ("choro", "samba"),
    AudioSpec(sample_rate=8000, window_seconds=1.5, hop_seconds=0.75),
    Component("logmel", {"n_fft": 512, "n_mels": 40, "hop_length": 200}),
    Component("vgg16-slim", {"width": 0.03, "dense_units": 8}),
    split="trained on 12 tracks of music",
    training={"config": {}, "stages": [{"name": "head", "epochs": 3, "learning_rate": 0.001}]},
    scores={"valid_accuracy": 0.75, "valid_loss": 0.5},
    library_version="0.1.0",
)


def test_the_hub_reads_its_metadata(tmp_path):
    write_card(tmp_path, config=CONFIG, parameters=1234)
    data = ModelCard.load(tmp_path / CARD_FILE).data
    assert data.library_name == "musgenre"
    assert data.pipeline_tag == "audio-classification"
    assert {"music", "genre"} <= set(data.tags)
    assert data.license is None  # nobody but the user knows


def test_it_says_what_the_configuration_says():
    text = card(CONFIG, parameters=1234)
    for words in (
        "# my-genres",
        "choro, samba",
        "`logmel` (n_fft = 512, n_mels = 40, hop_length = 200)",
        "windows of 1.5 s, one every 0.75 s, at 8,000 Hz",
        "1,234 parameters",
        "trained on 12 tracks of music.",
        "Stage `head`: at most 3 epochs, learning rate 0.001.",
        "| valid accuracy | 0.75 |",
        "which flatters",
    ):
        assert words in text
    bare = card(replace(CONFIG, split=None, training={}, scores={}, library_version=""), parameters=1)
    assert "What it was trained on is not recorded." in bare
    assert "None were measured." in bare
    assert "flatters" not in bare


def test_saving_writes_it_anew_but_keeps_a_persons_words(tmp_path):
    classifier = GenreClassifier(GenreNetwork.from_config(CONFIG), CONFIG, device="cpu")
    classifier.save_pretrained(tmp_path)
    first = (tmp_path / CARD_FILE).read_text()
    assert f"{sum(p.numel() for p in classifier.network.parameters()):,} parameters" in first
    classifier.config = replace(CONFIG, name="second")
    classifier.save_pretrained(tmp_path)
    assert "# second" in (tmp_path / CARD_FILE).read_text()
    mine = (tmp_path / CARD_FILE).read_text().replace("Written by musgenre", "Written by me")
    (tmp_path / CARD_FILE).write_text(mine)
    classifier.config = CONFIG
    classifier.save_pretrained(tmp_path)
    assert (tmp_path / CARD_FILE).read_text() == mine
    assert GenreClassifier.from_pretrained(tmp_path).config.name == "my-genres"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / CARD_FILE).mkdir()
    with pytest.raises(WeightsError, match="model card cannot be written"):
        write_card(tmp_path, config=CONFIG, parameters=1)


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)
