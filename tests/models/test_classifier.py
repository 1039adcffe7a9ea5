"""GenreClassifier: sources, predictions, embeddings, saving, and errors."""

import io
import threading

import numpy as np
import pytest
import soundfile
import torch

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import AudioError, AudioFileError, MusgenreError, ParameterError
from musgenre.metrics import track_probabilities

RATE = 22_050


@pytest.fixture(scope="module")
def classifier():
    config = ModelConfig(
        "tiny", ("jazz", "metal", "pop"), AudioSpec(), Component("logmel"), Component("vgg16-slim", {"width": 0.05})
    )
    torch.manual_seed(0)
    return musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config)


@pytest.fixture(scope="module")
def song():
    return np.random.default_rng(0).normal(scale=0.1, size=RATE * 10).astype(np.float32)


def test_prediction_is_the_mean_over_the_networks_windows(classifier, song):
    prediction = classifier.predict((song, RATE))
    starts = [0, 3 * RATE, 6 * RATE, 7 * RATE]  # the last window is aligned to the end of the recording
    windows = torch.from_numpy(np.stack([song[start : start + 3 * RATE] for start in starts]))
    with torch.no_grad():
        expected = classifier.network(windows).double().softmax(dim=1).numpy()
    np.testing.assert_allclose(prediction.windows.start_seconds, [0.0, 3.0, 6.0, 7.0])
    np.testing.assert_allclose(prediction.windows.probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected.mean(axis=0), atol=1e-6)
    mean = track_probabilities(prediction.windows.probabilities)  # the public function for the same mean
    assert list(prediction.probabilities.values()) == mean.tolist()
    assert list(prediction.probabilities) == ["jazz", "metal", "pop"]
    assert prediction.label == classifier.labels[expected.mean(axis=0).argmax()]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.duration_seconds == pytest.approx(10)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predictions_do_not_depend_on_the_batch_size(classifier, song, batch_size):
    found = classifier.predict((song, RATE), batch_size=batch_size).windows.probabilities
    np.testing.assert_allclose(found, classifier.predict((song, RATE)).windows.probabilities, atol=1e-6)


def test_all_kinds_of_source_give_equal_predictions(classifier, song, tmp_path):
    path = tmp_path / "song.wav"
    soundfile.write(path, song, RATE, subtype="FLOAT")
    by_path, by_text, by_file, by_samples = classifier.predict(
        [path, str(path), io.BytesIO(path.read_bytes()), (song, RATE)]
    )
    assert by_path.probabilities == by_text.probabilities == by_file.probabilities == by_samples.probabilities
    assert by_path.path == by_text.path == str(path)
    assert by_file.path is None
    assert by_samples.path is None


def test_predict_proba_has_columns_in_label_order(classifier, song):
    songs = [(song, RATE), (song[: RATE * 4], RATE)]
    matrix = classifier.predict_proba(songs)
    predictions = classifier.predict(iter(songs))
    assert matrix.shape == (2, 3)
    np.testing.assert_array_equal(matrix, [list(p.probabilities.values()) for p in predictions])
    assert classifier.predict_proba([]).shape == (0, 3)
    assert classifier.predict([]) == []


def test_embedding_is_the_mean_of_the_backbones_outputs(classifier, song):
    windows = torch.from_numpy(np.stack([song[: 3 * RATE], song[3 * RATE : 6 * RATE]]))
    with torch.no_grad():
        expected = classifier.network.backbone(classifier.network.feature(windows)).mean(dim=0).numpy()
    vector = classifier.embed((song[: 6 * RATE], RATE))
    assert vector.shape == (classifier.embedding_size,)
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
    assert classifier.embed([(song, RATE)] * 2, batch_size=2).shape == (2, classifier.embedding_size)


def test_equal_stereo_channels_equal_mono(classifier, song):
    stereo = classifier.predict((np.stack([song, song]), RATE))
    assert stereo.probabilities == classifier.predict((song, RATE)).probabilities


def test_predictions_do_not_depend_on_the_level(classifier, song):
    quiet = classifier.predict((song * np.float32(0.125), RATE))
    loud = classifier.predict((song, RATE))
    np.testing.assert_allclose(quiet.windows.probabilities, loud.windows.probabilities, atol=1e-5)


def test_saved_and_loaded_model_is_identical(classifier, song, tmp_path):
    classifier.save_pretrained(tmp_path / "model")
    loaded = musgenre.GenreClassifier.from_pretrained(tmp_path / "model")
    before, after = classifier.predict((song, RATE)), loaded.predict((song, RATE))
    np.testing.assert_array_equal(before.windows.probabilities, after.windows.probabilities)
    np.testing.assert_array_equal(classifier.embed((song, RATE)), loaded.embed((song, RATE)))
    assert loaded.config == classifier.config


def test_errors_are_returned_at_the_index_of_their_source(classifier, song, tmp_path):
    missing = tmp_path / "missing.mp3"
    good, bad, short = classifier.predict([(song, RATE), missing, (song[:10], RATE)], on_error="return")
    assert good.label in classifier.labels
    assert isinstance(bad, AudioFileError)
    assert "missing.mp3" in str(bad)
    assert isinstance(short, AudioError)
    assert isinstance(classifier.predict(missing, on_error="return"), AudioFileError)
    with pytest.raises(AudioFileError, match=r"missing\.mp3"):
        classifier.predict([(song, RATE), missing])


@pytest.mark.parametrize(
    ("source", "options"),
    [(7, {}), (None, {}), (([0.0] * 30_000, RATE), {"batch_size": 0}), (([0.0] * 30_000, RATE), {"on_error": "skip"})],
)
def test_invalid_arguments_raise(classifier, source, options):
    with pytest.raises(MusgenreError):
        classifier.predict(source, **options)


def test_predict_proba_requires_a_list(classifier):
    with pytest.raises(ParameterError, match="list"):
        classifier.predict_proba("song.wav")


def test_concurrent_predictions_are_independent(classifier, song):
    parts = [song[i * RATE :] for i in range(4)]
    expected = [classifier.predict((part, RATE)).probabilities for part in parts]
    found = [None] * len(parts)

    def work(index):
        found[index] = classifier.predict((parts[index], RATE)).probabilities

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for before, after in zip(expected, found, strict=True):
        assert list(before.values()) == pytest.approx(list(after.values()), abs=1e-6)


@pytest.fixture(scope="module")
def bundled():
    return musgenre.GenreClassifier.from_pretrained()


class TestBundled:
    """The default model, which is bundled with the package."""

    def test_labels_are_gtzans_genres(self, bundled):
        genres = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
        assert list(bundled.labels) == genres
        assert bundled.config.backbone.name == "yamnet"

    def test_file_size(self):
        from musgenre.models.serialization import BUNDLED, DEFAULT_MODEL

        assert sum(file.stat().st_size for file in BUNDLED[DEFAULT_MODEL].iterdir()) < 6_000_000

    def test_load_by_name(self, bundled, song):
        named = musgenre.GenreClassifier.from_pretrained("yamnet-mel-gtzan-v1")
        assert named.config == bundled.config
        assert named.predict((song, RATE)).probabilities == bundled.predict((song, RATE)).probabilities

    def test_training_excerpts_are_classified(self, bundled, gtzan_folder):
        # The model was trained on these excerpts: this checks that weights and labels match, not the accuracy.
        tracks = [path for path in sorted(gtzan_folder.glob("*/*.flac")) if path.stem.endswith(("0", "5"))]
        correct = [p.label == path.parent.name for path, p in zip(tracks, bundled.predict(tracks), strict=True)]
        assert np.mean(correct) > 0.5
