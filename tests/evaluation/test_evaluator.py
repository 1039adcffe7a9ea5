"""Scores of ``evaluate``, compared with scikit-learn, torchmetrics and hand-made facts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

import musgenre
from musgenre.core.config import AudioSpec, Component
from musgenre.core.errors import AudioFileError, DatasetError
from musgenre.datasets import AudioFolder, MissingTrack, TrackDataset
from musgenre.evaluation import evaluate
from musgenre.metrics import accuracy_interval, track_probabilities

QUICK = settings(max_examples=6, deadline=None)


def assert_scores_equal_scikit_learns(scores, *, truth, probabilities, labels):
    predicted = probabilities.argmax(axis=1)
    assert scores.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    assert scores.macro_f1 == pytest.approx(sklearn.metrics.f1_score(truth, predicted, average="macro"))
    assert scores.top3_accuracy == pytest.approx(sklearn.metrics.top_k_accuracy_score(truth, probabilities, k=3))
    np.testing.assert_array_equal(scores.confusion, sklearn.metrics.confusion_matrix(truth, predicted))
    columns = sklearn.metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)
    for index, label in enumerate(labels):
        assert dataclasses.astuple(scores.genres[label]) == pytest.approx([column[index] for column in columns])
    expected = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(truth), num_classes=5, n_bins=15)
    assert scores.calibration_error == pytest.approx(float(expected), abs=1e-6)


class TestScores:
    def test_tracks(self, report, make_dataset, fake_classifier, labels):
        data, fake = make_dataset(), fake_classifier()
        truth = [labels.index(track.label) for track in data]
        probabilities = np.array([track_probabilities(fake.window_probabilities(track.path)) for track in data])
        assert report.tracks == 60
        assert report.groups == 20
        assert_scores_equal_scikit_learns(report, truth=truth, probabilities=probabilities, labels=labels)
        predicted = probabilities.argmax(axis=1)
        assert [row.predicted for row in report.predictions] == [labels[index] for index in predicted]
        np.testing.assert_allclose([row.probabilities for row in report.predictions], probabilities)

    def test_windows(self, report, make_dataset, fake_classifier, labels):
        data, fake = make_dataset(), fake_classifier()
        rows = [fake.window_probabilities(track.path) for track in data]
        truth = np.repeat([labels.index(track.label) for track in data], [len(part) for part in rows])
        probabilities = np.concatenate(rows)
        assert report.windows.count == len(probabilities) > 100
        assert_scores_equal_scikit_learns(report.windows, truth=truth, probabilities=probabilities, labels=labels)
        assert report.windows.calibration_error != pytest.approx(report.calibration_error, abs=0.01)

    def test_window_intervals_are_resampled_by_artist(self, report, make_dataset, fake_classifier, labels):
        data, fake = make_dataset(), fake_classifier()
        rows = [fake.window_probabilities(track.path) for track in data]
        correct = np.concatenate(
            [row.argmax(axis=1) == labels.index(track.label) for row, track in zip(rows, data, strict=True)]
        ).astype(int)
        groups = [track.group for track, row in zip(data, rows, strict=True) for _ in row]
        # Groups are drawn, so windows instead of tracks do not change the draws.
        assert report.windows.accuracy_interval == pytest.approx(
            accuracy_interval(np.ones_like(correct), correct, groups=groups)
        )

    def test_track_intervals_are_resampled_by_artist(self, report, labels):
        truth = [labels.index(row.label) for row in report.predictions]
        predicted = [labels.index(row.predicted) for row in report.predictions]
        groups = [row.group for row in report.predictions]
        assert report.accuracy_interval == accuracy_interval(truth, predicted, groups=groups)
        drawn = []
        random = np.random.default_rng(1)
        members = {group: np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))}
        for _ in range(400):
            rows = np.concatenate([members[group] for group in random.choice(list(members), len(members))])
            f1 = sklearn.metrics.f1_score(
                np.array(truth)[rows], np.array(predicted)[rows], average="macro", zero_division=0
            )
            drawn.append(f1)
        assert report.macro_f1_interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.03)

    def test_ungrouped_track_is_not_in_a_group_of_the_same_name(self, fake_classifier, make_track, labels):
        tracks = [
            make_track(0, label="jazz"),
            make_track(1, label="jazz", group="000"),
            make_track(2, label="pop", group="000"),
        ]
        report = evaluate(fake_classifier(), TrackDataset(tracks, labels=labels, name="made"))
        assert report.groups == 2
        assert "2 groups" in report.to_markdown()

    def test_report_states_that_no_groups_are_known(self, fake_classifier, make_track, labels):
        tracks = [make_track(n, label="jazz") for n in range(3)]
        text = evaluate(fake_classifier(), TrackDataset(tracks, labels=labels, name="made")).to_markdown()
        assert "no known groups (intervals are resampled by track)" in text

    @QUICK
    @given(seed=st.integers(0, 999))
    def test_order_of_tracks_does_not_matter(self, report, make_dataset, fake_classifier, order_free, seed):
        data = make_dataset()
        order = np.random.default_rng(seed).permutation(len(data))
        shuffled = evaluate(fake_classifier(), data.select(data[index].id for index in order))
        for field in ("model", "trained_on", "dataset", "leaky", "library_version", "tracks", "missing", "groups"):
            assert getattr(shuffled, field) == getattr(report, field), field
        assert order_free(shuffled) == pytest.approx(order_free(report))
        assert order_free(shuffled.windows) == pytest.approx(order_free(report.windows))
        assert shuffled.confusion == report.confusion
        assert shuffled.windows.confusion == report.windows.confusion
        assert sorted(shuffled.predictions, key=lambda row: row.id) == list(report.predictions)

    @QUICK
    @given(order=st.permutations(range(5)))
    def test_order_of_labels_does_not_matter(self, report, make_dataset, fake_classifier, order_free, labels, order):
        permuted = tuple(labels[index] for index in order)
        other = evaluate(fake_classifier(permuted), make_dataset())
        for field in ("model", "trained_on", "dataset", "leaky", "library_version", "tracks", "missing", "groups"):
            assert getattr(other, field) == getattr(report, field), field
        assert other.labels == permuted
        for one, two in ((other, report), (other.windows, report.windows)):
            assert order_free(one) == pytest.approx(order_free(two))
            np.testing.assert_array_equal(one.confusion, np.array(two.confusion)[np.ix_(order, order)])
            assert one.genres == two.genres

    def test_dataset_may_lack_genres_but_not_add_any(self, fake_classifier, make_dataset, labels):
        report = evaluate(fake_classifier(), make_dataset(labels=("rock", "jazz")))
        assert report.labels == labels
        assert [report.genres[label].support for label in labels] == [0, 30, 0, 0, 30]
        with pytest.raises(DatasetError, match="unknown to fake: zydeco"):
            evaluate(fake_classifier(), make_dataset(labels=("rock", "zydeco")))

    def test_missing_tracks_are_counted(self, fake_classifier, make_dataset, labels):
        missing = [MissingTrack("x", "gone")]
        data = TrackDataset(make_dataset().tracks, labels=labels, name="made", split="test", missing=missing)
        report = evaluate(fake_classifier(), data)
        assert report.missing == 1
        assert "could not be read and are not counted: 1." in report.to_markdown()
        assert report.dataset == "made (test)"

    def test_undecodable_track_is_named(self, fake_classifier, make_dataset):
        class Undecodable(fake_classifier):
            def predict(self, path):
                if path.stem == "017":
                    raise AudioFileError("no audio")
                return super().predict(path)

        with pytest.raises(DatasetError, match=r"'017'.*no audio"):
            evaluate(Undecodable(), make_dataset())

    def test_track_with_non_finite_probabilities_is_named(self, fake_classifier, make_dataset):
        class NonFinite(fake_classifier):
            def window_probabilities(self, path):
                return np.full((2, 5), np.nan) if path.stem == "017" else super().window_probabilities(path)

        with pytest.raises(DatasetError, match=r"non-finite.*'017'"):
            evaluate(NonFinite(), make_dataset())

    def test_genre_classifier(self, genre_folder):
        component = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
        config = musgenre.ModelConfig("tiny", ("drone", "hiss"), AudioSpec(8_000), Component("logmel"), component)
        torch.manual_seed(0)
        classifier = musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config)
        data = AudioFolder(genre_folder)
        report = musgenre.evaluate(classifier, data)
        predictions = classifier.predict([track.path for track in data])
        assert report.accuracy == np.mean([p.label == t.label for p, t in zip(predictions, data, strict=True)])
        assert report.windows.count == sum(len(prediction.windows.start_seconds) for prediction in predictions)
        assert report.model == "tiny"


class TestLeakage:
    def test_leakage_is_an_error_before_anything_is_predicted(self, fake_classifier, make_dataset, make_track, labels):
        data, fake = make_dataset(), fake_classifier()
        with pytest.raises(DatasetError, match="track 000, 001"):
            evaluate(fake, data, trained_on=data.select(["000", "001"]))
        artist = TrackDataset([make_track(99, label="jazz", group="artist 3")], labels=labels, name="other")
        with pytest.raises(DatasetError, match="group artist 3"):
            evaluate(fake, data, trained_on=artist)
        assert fake.predicted_paths == []

    def test_different_labels_are_an_error_even_if_leakage_is_allowed(self, fake_classifier, make_dataset, labels):
        data = make_dataset()
        other = TrackDataset(data.tracks, labels=labels[::-1], name="made")
        with pytest.raises(DatasetError, match="labels"):
            evaluate(fake_classifier(), data, trained_on=other, allow_leakage=True)
