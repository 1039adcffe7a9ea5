from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import musgenre
from musgenre.core.config import Component
from musgenre.core.errors import AudioFileError, MusgenreError, ParameterError, UnknownNameError
from musgenre.features import FEATURES
from musgenre.sklearn import EmbeddingTransformer, FeatureTransformer


@pytest.fixture(scope="module")
def songs(genre_folder):
    paths = sorted(genre_folder.rglob("*.wav"))
    return paths, [path.parent.name for path in paths]


def stats(**options: object) -> FeatureTransformer:
    return FeatureTransformer(Component("stats", {"n_bands": 4}), sample_rate=8_000, window_seconds=2.0, **options)


def test_a_row_is_the_feature_of_the_window(songs):
    paths, _ = songs
    waveforms = np.stack([soundfile.read(path, dtype="float32")[0] for path in paths])
    feature = FEATURES.build("stats", {"sample_rate": 8_000, "n_bands": 4})
    expected = feature(torch.from_numpy(waveforms))[:, 0, :, 0].numpy()
    found = stats().fit_transform(waveforms)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(stats().fit(paths).transform(paths), found, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(stats().fit_transform(np.array(list(map(str, paths)))), stats().fit_transform(paths))
    np.testing.assert_array_equal(
        stats().fit_transform(pd.Series(list(map(str, paths)), index=range(50, 58))), stats().fit_transform(paths)
    )


def test_windows_are_averaged(songs):
    path = songs[0][0]
    waveform = soundfile.read(path, dtype="float32")[0]
    halves = stats().set_params(window_seconds=1.0).fit_transform(np.stack([waveform[:8000], waveform[8000:]]))
    mean = stats().set_params(window_seconds=1.0).fit_transform([path])
    np.testing.assert_allclose(mean[0], halves.mean(axis=0), rtol=1e-5, atol=1e-5)


def test_a_spectrogram_is_averaged_over_its_frames(songs):
    transformer = FeatureTransformer("hpss+logmel", sample_rate=8_000, window_seconds=1.0)
    table = transformer.set_output(transform="pandas").fit_transform(songs[0][:2])
    assert table.shape == (2, 3 * 128)
    assert list(table.columns[[0, -1]]) == ["hpss+logmel_0_0", "hpss+logmel_2_127"]
    assert table.to_numpy().min() >= -1
    mfcc = FeatureTransformer("mfcc", sample_rate=8_000).fit(songs[0])
    assert list(mfcc.get_feature_names_out()[:2]) == ["mfcc_0", "mfcc_1"]


def test_pandas(songs):
    table = stats().set_output(transform="pandas").fit_transform(songs[0])
    assert isinstance(table, pd.DataFrame)
    assert table.shape == (8, len(stats().fit(songs[0]).get_feature_names_out()))
    assert "tempo" in table.columns
    assert table.loc[table.index[:4], "zero_crossing_rate_mean"].max() < table["zero_crossing_rate_mean"][4:].min()


def test_in_a_column_transformer(songs):
    table = pd.DataFrame({"song": list(map(str, songs[0])), "year": range(8)})
    both = ColumnTransformer([("sound", stats(), "song"), ("rest", "passthrough", ["year"])])
    assert both.fit_transform(table).shape == (8, stats().fit_transform(songs[0]).shape[1] + 1)


def test_pipeline_and_searches(songs):
    paths, labels = songs
    pipeline = make_pipeline(stats(), StandardScaler(), SVC())
    groups = [int(path.stem) for path in paths]
    assert cross_val_score(pipeline, paths, labels, groups=groups, cv=GroupKFold(2)).tolist() == [1.0, 1.0]
    grid = {"featuretransformer__feature": ["mfcc", "chroma"], "svc__C": [1.0, 10.0]}
    search = GridSearchCV(pipeline, grid, cv=GroupKFold(2)).fit(paths, labels, groups=groups)
    assert search.best_score_ == 1.0
    assert search.predict(paths[:1]).tolist() == labels[:1]


def test_embeddings(songs):
    paths, labels = songs
    transformer = EmbeddingTransformer(device="cpu").set_output(transform="pandas")
    table = transformer.fit_transform(paths[:2])
    classifier = musgenre.GenreClassifier.from_pretrained(device="cpu")
    np.testing.assert_allclose(table.to_numpy(), classifier.embed(paths[:2]), rtol=1e-4, atol=1e-5)
    assert list(table.columns[:2]) == ["embedding_0", "embedding_1"]
    pipeline = make_pipeline(EmbeddingTransformer(classifier), StandardScaler(), SVC()).fit(paths, labels)
    assert clone(pipeline).fit(paths, labels).score(paths, labels) == 1.0


@pytest.mark.parametrize("make", [stats, lambda: EmbeddingTransformer(device="cpu")], ids=["feature", "embedding"])
def test_clones_and_pickles(make, songs):
    transformer = make()
    again = clone(transformer)
    assert again.get_params() == transformer.get_params()
    expected = transformer.fit_transform(songs[0][:2])
    restored = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(restored.transform(songs[0][:2]), expected)


class TestRefusals:
    def test_one_path(self, songs):
        with pytest.raises(ParameterError, match="put it in a list"):
            stats().fit(songs[0][0])

    def test_paths_and_other_items(self, songs):
        with pytest.raises(ParameterError, match=r"one item is 3\.5"):
            stats().fit([songs[0][0], 3.5])

    def test_a_file_that_is_not_audio(self, tmp_path):
        path = tmp_path / "song.wav"
        path.write_text("no music")
        with pytest.raises(AudioFileError, match=r"song\.wav"):
            stats().fit([path]).transform([path])

    def test_an_unknown_feature(self, songs):
        with pytest.raises(UnknownNameError, match="Did you mean 'stats"):
            FeatureTransformer("stat").fit(songs[0])

    @pytest.mark.parametrize("wrong", [{"sample_rate": 0}, {"window_seconds": -1.0}])
    def test_parameters(self, wrong, songs):
        with pytest.raises(MusgenreError):
            stats().set_params(**wrong).fit(songs[0])

    def test_an_array_of_something_else(self):
        with pytest.warns(UserWarning, match="Each row is a song of 40 samples"):
            FeatureTransformer("mfcc").fit(np.zeros((3, 40)))

    def test_names_of_other_columns(self, songs):
        fitted = stats().fit(pd.DataFrame(np.zeros((2, 900)), columns=[f"s{i}" for i in range(900)]))
        with pytest.raises(ParameterError, match="not equal to feature_names_in_"):
            fitted.get_feature_names_out([f"t{i}" for i in range(900)])
        fitted.fit(songs[0])
        assert not hasattr(fitted, "n_features_in_")
        assert not hasattr(fitted, "feature_names_in_")
