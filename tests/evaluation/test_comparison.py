"""McNemar comparisons of reports."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats

from musgenre.core.errors import DatasetError
from musgenre.datasets import TrackDataset
from musgenre.evaluation import compare, evaluate


def test_counts_and_p_value(report, fake_classifier, make_dataset):
    other = evaluate(fake_classifier(salt=1), make_dataset())
    correct = np.array([[row.label == row.predicted for row in of.predictions] for of in (report, other)])
    comparison = compare(report, other)
    assert comparison.n01 == (~correct[0] & correct[1]).sum() > 0
    assert comparison.n10 == (correct[0] & ~correct[1]).sum() > 0
    assert comparison.n01 != comparison.n10
    expected = scipy.stats.binomtest(comparison.n01, comparison.n01 + comparison.n10).pvalue
    assert comparison.p_value == pytest.approx(expected)
    assert (comparison.accuracy_a, comparison.accuracy_b) == (report.accuracy, other.accuracy)
    reverse = compare(other, report)
    assert (reverse.n01, reverse.n10, reverse.p_value) == (comparison.n10, comparison.n01, comparison.p_value)


def test_classifier_equals_itself_in_any_order_of_tracks(report, fake_classifier, make_dataset):
    data = make_dataset()
    backwards = evaluate(fake_classifier(), data.select(track.id for track in reversed(data.tracks)))
    comparison = compare(report, backwards)
    assert (comparison.n01, comparison.n10, comparison.p_value) == (0, 0, 1.0)


def test_unmatched_track_is_named(report, fake_classifier, make_dataset):
    data = make_dataset()
    fewer = evaluate(fake_classifier(), data.select(track.id for track in data if track.id != "042"))
    for pair in ((report, fewer), (fewer, report)):
        with pytest.raises(DatasetError, match=r"different tracks; .*042"):
            compare(*pair)


def test_relabelled_track_is_named(report, fake_classifier, make_dataset, labels):
    data = make_dataset()
    tracks = [dataclasses.replace(t, label="blues") if t.id == "042" else t for t in data]
    assert data[42].label != "blues"
    other = evaluate(fake_classifier(), TrackDataset(tracks, labels=labels, name="made"))
    with pytest.raises(DatasetError, match=r"different labels for 042"):
        compare(report, other)
