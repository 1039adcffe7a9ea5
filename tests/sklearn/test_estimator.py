from __future__ import annotations

import pickle

import numpy as np
import pytest
import soundfile
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict

from musgenre.core.config import AudioSpec, Component
from musgenre.core.errors import AudioFileError, DatasetError, ParameterError
from musgenre.sklearn import GenreEstimator

OPTIONS = {
    "audio": AudioSpec(8_000, 1.0, 1.0),
    "head_epochs": 0,
    "epochs": 8,
    "head_learning_rate": 1e-2,
    "dropout": 0.0,
    "windows_per_track": 4,
    "batch_size": 8,
}
TINY = Component("vgg16-slim", {"width": 0.05, "dense_units": 8, "dropout": 0.0})
FEATURE = Component("logmel", {"n_fft": 512, "hop_length": 128, "n_mels": 32})


def tiny(**options: object) -> GenreEstimator:
    return GenreEstimator(TINY, feature=FEATURE, sample_rate=8_000, options={**OPTIONS, **options})


@pytest.fixture(scope="module")
def songs(genre_folder):
    paths = sorted(genre_folder.rglob("*.wav"))
    return paths, np.array([path.parent.name for path in paths])


@pytest.fixture(scope="module")
def fitted(songs):
    return tiny().fit(*songs)


def test_fits_and_predicts(fitted, songs):
    paths, labels = songs
    assert is_classifier(fitted)
    assert fitted.classes_.tolist() == ["drone", "hiss"]
    probabilities = fitted.predict_proba(paths)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (fitted.classes_[probabilities.argmax(axis=1)] == fitted.predict(paths)).all()
    assert fitted.score(paths, labels) == 1.0
    assert fitted.classifier_.labels == ("drone", "hiss")


@pytest.mark.slow
def test_an_array_is_the_same_as_files(fitted, songs):
    paths, labels = songs
    waveforms = np.stack([soundfile.read(path, dtype="float32")[0] for path in paths])
    np.testing.assert_allclose(fitted.predict_proba(waveforms), fitted.predict_proba(paths), atol=1e-5)
    again = tiny().fit(waveforms, labels)
    assert again.n_features_in_ == 16_000
    np.testing.assert_allclose(again.predict_proba(waveforms), fitted.predict_proba(waveforms), atol=1e-3)


def test_labels_of_any_kind(songs):
    paths, labels = songs
    numbers = np.where(labels == "drone", 10, 2)
    estimator = tiny(epochs=1).fit(paths, numbers)
    assert estimator.classes_.tolist() == [2, 10]
    assert estimator.classifier_.labels == ("2", "10")
    assert set(estimator.predict(paths)) <= {2, 10}


@pytest.mark.slow
def test_cross_validation_and_search(songs):
    paths, labels = songs
    groups = [int(path.stem) // 2 for path in paths]
    found = cross_val_predict(tiny(), paths, labels, groups=groups, cv=GroupKFold(2))
    assert (found == labels).mean() > 0.8
    search = GridSearchCV(tiny(), {"options__epochs": [1, 2]}, cv=GroupKFold(2)).fit(paths, labels, groups=groups)
    assert len(search.cv_results_["params"]) == 2
    chosen = search.best_params_["options__epochs"]
    assert search.best_estimator_.classifier_.config.training["config"]["epochs"] == chosen


def test_clones_and_pickles(fitted, songs):
    again = clone(fitted)
    assert again.options == fitted.options
    with pytest.raises(NotFittedError):
        again.predict(songs[0])
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.predict_proba(songs[0]), fitted.predict_proba(songs[0]))


def test_set_params_does_not_share_options():
    estimator = tiny()
    other = clone(estimator).set_params(options__epochs=1, options__seed=3, feature="mfcc")
    assert (other.options["epochs"], other.options["seed"], other.feature) == (1, 3, "mfcc")
    assert estimator.options["epochs"] == 8


class TestRefusals:
    def test_an_unknown_option(self, songs):
        with pytest.raises(ParameterError, match="Did you mean 'epochs"):
            tiny().set_params(options__epoch=3)
        with pytest.raises(ParameterError, match="Did you mean 'epochs"):
            tiny(epoch=3).fit(*songs)

    def test_one_class(self, songs):
        with pytest.raises(ParameterError, match="1 class: 'rock'"):
            tiny().fit(songs[0], ["rock"] * 8)

    def test_one_song_of_a_class(self, songs):
        with pytest.raises(DatasetError, match="a \\(1\\)"):
            tiny().fit(songs[0][:3], ["a", "b", "b"])

    def test_different_numbers_of_songs_and_labels(self, songs):
        with pytest.raises(ValueError, match="inconsistent numbers"):
            tiny().fit(songs[0], songs[1][:-1])

    def test_a_file_that_is_not_audio(self, fitted, songs, tmp_path):
        path = tmp_path / "song.wav"
        path.write_text("no music")
        with pytest.raises(DatasetError, match="Song 1 cannot be used"):
            tiny().fit([songs[0][0], path], ["a", "b"])
        with pytest.raises(AudioFileError, match=r"song\.wav"):
            fitted.predict([path])
