from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from musgenre.core.errors import ParameterError
from musgenre.metrics import (
    accuracy,
    accuracy_interval,
    bootstrap_interval,
    confusion,
    expected_calibration_error,
    genre_scores,
    macro_f1,
    mcnemar,
    reliability,
    top_k_accuracy,
    track_probabilities,
)

SETTINGS = settings(deadline=None)
CLASSES = 5
pairs = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40)


def _split(both: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [truth for truth, _ in both], [predicted for _, predicted in both]


@st.composite
def window_rows(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 12)))
    logits = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(scale=3, size=shape)
    return scipy.special.softmax(logits, axis=1)


class TestTrackProbabilities:
    @SETTINGS
    @given(rows=window_rows())
    def test_sums_to_one_between_the_windows(self, rows):
        track = track_probabilities(rows)
        assert track.shape == (rows.shape[1],)
        assert track.sum() == pytest.approx(1, abs=1e-12)
        assert (track >= rows.min(axis=0) - 1e-12).all()
        assert (track <= rows.max(axis=0) + 1e-12).all()

    @SETTINGS
    @given(rows=window_rows(), seed=st.integers(0, 99))
    def test_order_of_windows_does_not_matter(self, rows, seed):
        shuffled = np.random.default_rng(seed).permutation(rows)
        np.testing.assert_allclose(track_probabilities(shuffled), track_probabilities(rows), rtol=1e-12)

    @SETTINGS
    @given(rows=window_rows())
    def test_classes_stay_in_their_columns(self, rows):
        np.testing.assert_allclose(track_probabilities(rows[:, ::-1]), track_probabilities(rows)[::-1])

    @SETTINGS
    @given(rows=window_rows())
    def test_one_window_speaks_for_itself_and_a_repeated_one_too(self, rows):
        np.testing.assert_allclose(track_probabilities(rows[:1]), rows[0])
        np.testing.assert_allclose(track_probabilities(np.repeat(rows[:1], 7, axis=0)), rows[0])

    def test_rounding_of_single_precision_is_taken_out(self):
        rows = np.full((3, 7), 1 / 7, dtype=np.float32)
        assert track_probabilities(rows).sum() == pytest.approx(1, abs=1e-15)

    @pytest.mark.parametrize("wrong", [np.zeros((0, 3)), np.ones(3), np.ones((1, 1, 1)), []])
    def test_no_window(self, wrong):
        with pytest.raises(ParameterError, match="at least one window"):
            track_probabilities(wrong)


class TestAgainstScikitLearn:
    @SETTINGS
    @given(both=pairs)
    def test_accuracy(self, both):
        truth, predicted = _split(both)
        assert accuracy(truth, predicted) == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))

    @SETTINGS
    @given(both=pairs)
    def test_macro_f1(self, both):
        truth, predicted = _split(both)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours = macro_f1(truth, predicted)
        classes = sorted({*truth, *predicted})
        by_hand = []
        for label in classes:
            hits = sum(t == p == label for t, p in both)
            by_hand.append(2 * hits / (truth.count(label) + predicted.count(label)))
        assert ours == pytest.approx(np.mean(by_hand))
        assert ours == pytest.approx(
            sklearn.metrics.f1_score(truth, predicted, average="macro", labels=classes, zero_division=0)
        )

    @SETTINGS
    @given(both=pairs)
    def test_confusion(self, both):
        truth, predicted = _split(both)
        matrix = confusion(truth, predicted, classes=CLASSES)
        expected = sklearn.metrics.confusion_matrix(truth, predicted, labels=list(range(CLASSES)))
        np.testing.assert_array_equal(matrix, expected)
        assert matrix.sum() == len(both)
        assert np.trace(matrix) / matrix.sum() == pytest.approx(accuracy(truth, predicted))
        np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(truth, minlength=CLASSES))

    @SETTINGS
    @given(both=pairs)
    def test_genre_scores(self, both):
        truth, predicted = _split(both)
        ours = genre_scores(confusion(truth, predicted, classes=CLASSES))
        theirs = sklearn.metrics.precision_recall_fscore_support(
            truth, predicted, labels=list(range(CLASSES)), zero_division=0
        )
        np.testing.assert_allclose(ours, theirs[:3])

    @SETTINGS
    @given(rows=window_rows(), k=st.integers(1, 14), seed=st.integers(0, 99))
    def test_top_k(self, rows, k, seed):
        classes = rows.shape[1]
        truth = np.random.default_rng(seed).integers(classes, size=len(rows))
        ours = top_k_accuracy(truth, rows, k=k)
        if k >= classes:
            assert ours == 1
        elif classes > 2:
            labels = range(classes)
            assert ours == pytest.approx(sklearn.metrics.top_k_accuracy_score(truth, rows, k=k, labels=labels))
        assert top_k_accuracy(truth, rows, k=1) == pytest.approx(accuracy(truth, rows.argmax(axis=1)))

    def test_rows_are_the_truth(self):
        assert confusion([0, 0], [1, 1], classes=3).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]


class TestAccuracyInterval:
    def test_all_right_and_all_wrong(self):
        groups = list("aabbcc")
        assert accuracy_interval([0] * 6, [0] * 6, groups=groups) == (1.0, 1.0)
        assert accuracy_interval([0] * 6, [1] * 6, groups=groups) == (0.0, 0.0)

    @SETTINGS
    @given(both=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=8, max_size=60))
    def test_contains_the_point_estimate(self, both):
        truth, predicted = _split(both)
        low, high = accuracy_interval(truth, predicted, groups=[str(index) for index in range(len(both))], draws=300)
        assert 0 <= low <= accuracy(truth, predicted) <= high <= 1

    def test_fewer_groups_are_less_certain(self):
        def width(groups: int) -> float:
            # 120 tracks; every second group is right as a whole.
            group = np.arange(120) * groups // 120
            low, high = accuracy_interval([1] * 120, (group % 2).tolist(), groups=[str(g) for g in group])
            assert (low + high) / 2 == pytest.approx(0.5, abs=0.05)
            return high - low

        # The deviation of a mean of n coins falls with the root of n.
        assert width(120) == pytest.approx(2 * 1.96 * 0.5 / 120**0.5, rel=0.1)
        assert width(30) == pytest.approx(2 * 1.96 * 0.5 / 30**0.5, rel=0.15)
        assert width(120) < width(30) < width(10) < width(4)

    def test_tracks_of_one_group_move_together(self):
        truth, predicted = [1] * 40, [1, 0] * 20
        alone = accuracy_interval(truth, predicted, groups=[str(index) for index in range(40)])
        right_and_wrong_artists = accuracy_interval(truth, predicted, groups=[f"{i % 2}{i // 8}" for i in range(40)])
        mixed_artists = accuracy_interval(truth, predicted, groups=[str(index // 2) for index in range(40)])
        assert mixed_artists == (0.5, 0.5)
        assert right_and_wrong_artists[1] - right_and_wrong_artists[0] > alone[1] - alone[0]

    def test_one_group_knows_nothing_of_others(self):
        assert accuracy_interval([1, 1, 1, 1], [1, 1, 1, 0], groups=["a"] * 4) == (0.75, 0.75)

    def test_equals_scipy_bootstrap_over_groups(self):
        random = np.random.default_rng(5)
        groups = random.integers(25, size=200)
        right = (random.random(200) < random.beta(2, 2, size=25)[groups]).astype(int)
        ours = accuracy_interval([1] * 200, right.tolist(), groups=[str(g) for g in groups], draws=20_000)

        present = np.unique(groups)
        hits = np.array([right[groups == group].sum() for group in present])
        sizes = np.array([(groups == group).sum() for group in present])
        theirs = scipy.stats.bootstrap(
            (hits, sizes),
            lambda drawn_hits, drawn_sizes, axis=-1: drawn_hits.sum(axis) / drawn_sizes.sum(axis),
            paired=True,
            method="percentile",
            n_resamples=20_000,
            random_state=np.random.default_rng(7),
        ).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.005)
        assert ours[1] - ours[0] > 0.1

    def test_covers_the_truth(self):
        # 95 % of such intervals hold the true value; with 30 groups a percentile bootstrap stays a little below.
        random = np.random.default_rng(0)
        groups = np.repeat(np.arange(30), 4)
        held = 0
        for seed in range(200):
            right = random.random(120) < random.beta(4, 4, size=30)[groups]
            low, high = accuracy_interval(
                [1] * 120, right.astype(int).tolist(), groups=[str(g) for g in groups], draws=400, seed=seed
            )
            held += low <= 0.5 <= high
        assert 0.88 <= held / 200 <= 0.99

    def test_seed(self):
        predicted = np.random.default_rng(0).integers(2, size=80).tolist()
        groups = [str(index % 50) for index in range(80)]
        first, again, other = (
            accuracy_interval([1] * 80, predicted, groups=groups, draws=50, seed=seed) for seed in (3, 3, 4)
        )
        assert first == again
        assert first != other

    @pytest.mark.parametrize("groups", [[], ["a"], ["a", "b", "c"]])
    def test_a_group_for_each(self, groups):
        with pytest.raises(ParameterError, match=f"a group for each of 2 tracks, got {len(groups)}"):
            accuracy_interval([0, 1], [0, 1], groups=groups)

    def test_no_draws(self):
        with pytest.raises(ParameterError, match="draws"):
            accuracy_interval([0, 1], [0, 1], groups=["a", "b"], draws=0)


def test_of_equals_the_first_is_among_the_top():
    assert top_k_accuracy([0, 1, 2], [[1 / 3] * 3] * 3, k=2) == pytest.approx(2 / 3)
    assert top_k_accuracy(range(64), np.full((64, 64), 1 / 64), k=16) == 16 / 64


class TestCalibration:
    @SETTINGS
    @given(rows=window_rows(), bins=st.integers(1, 20), seed=st.integers(0, 99))
    def test_error_against_torchmetrics(self, rows, bins, seed):
        rows = np.hstack([rows, np.zeros((len(rows), 1))])  # two classes at least
        truth = np.random.default_rng(seed).integers(rows.shape[1], size=len(rows))
        rows = rows * (1 - 1e-9)  # they keep a confidence of exactly 1 in a bin of its own
        expected = multiclass_calibration_error(
            torch.tensor(rows), torch.tensor(truth), num_classes=rows.shape[1], n_bins=bins
        )
        assert expected_calibration_error(truth, rows, bins=bins) == pytest.approx(float(expected), abs=1e-5)

    def test_a_calibrated_classifier_has_no_error_and_a_boastful_one_has(self):
        random = np.random.default_rng(0)
        first = random.uniform(0.5, 1, size=40_000)
        rows = np.stack([first, 1 - first], axis=1)
        truth = (random.random(40_000) > first).astype(int)
        assert expected_calibration_error(truth, rows) < 0.01
        boastful = rows**3 / (rows**3).sum(axis=1, keepdims=True)
        assert expected_calibration_error(truth, boastful) > 0.1

    @pytest.mark.parametrize("place", range(1, 16))
    def test_a_bin_ends_with_its_upper_edge(self, place):
        table = reliability([0], [[place / 15, 0.0]], bins=15)
        assert np.flatnonzero(table[:, 0]).tolist() == [place - 1]

    @SETTINGS
    @given(rows=window_rows(), cut=st.integers(1, 29), seed=st.integers(0, 99))
    def test_tables_add_up(self, rows, cut, seed):
        truth = np.random.default_rng(seed).integers(rows.shape[1], size=len(rows))
        whole = reliability(truth, rows)
        counts, confidence, right = whole.T
        assert counts.sum() == len(rows)
        assert confidence.sum() == pytest.approx(rows.max(axis=1).sum())
        assert right.sum() == (rows.argmax(axis=1) == truth).sum()
        if cut < len(rows):
            parts = reliability(truth[:cut], rows[:cut]) + reliability(truth[cut:], rows[cut:])
            np.testing.assert_allclose(parts, whole)

    def test_refusals(self):
        for measure in (top_k_accuracy, reliability, expected_calibration_error):
            for truth, rows in (([], np.zeros((0, 2))), ([0], [0.5, 0.5]), ([0, 1], [[0.5, 0.5]])):
                with pytest.raises(ParameterError, match="a row for each truth"):
                    measure(truth, rows)
        with pytest.raises(ParameterError, match="k must"):
            top_k_accuracy([0], [[1.0, 0.0]], k=0)
        with pytest.raises(ParameterError, match="bins must"):
            reliability([0], [[1.0, 0.0]], bins=0)


class TestBootstrap:
    def test_any_statistic_against_scipy(self):
        random = np.random.default_rng(2)
        values = random.normal(size=80)
        ours = bootstrap_interval(
            lambda rows: float(np.median(values[rows])), groups=[str(i) for i in range(80)], draws=4_000
        )
        # Without a seed, whose name has changed: the ends move by less than half of the tolerance.
        theirs = scipy.stats.bootstrap((values,), np.median, method="percentile", n_resamples=4_000).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.05)

    def test_groups_are_drawn_whole(self):
        groups = ["b", "a", "b", "c", "b", "c"]
        seen = []

        def record(rows):
            seen.append(tuple(np.bincount(rows, minlength=6)))
            return 0.0

        bootstrap_interval(record, groups=groups, draws=50)
        for times in seen:
            assert times[0] == times[2] == times[4]
            assert times[3] == times[5]
            assert times[0] + times[1] + times[3] == 3
        assert len(set(seen)) > 5

    def test_refusals(self):
        with pytest.raises(ParameterError, match="at least one track"):
            bootstrap_interval(len, groups=[])
        with pytest.raises(ParameterError, match="draws"):
            bootstrap_interval(len, groups=["a"], draws=0)


class TestMcNemar:
    @SETTINGS
    @given(first=st.integers(0, 200), second=st.integers(0, 200))
    def test_against_scipys_binomial_test(self, first, second):
        expected = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0
        assert mcnemar(first, second) == pytest.approx(expected)
        assert mcnemar(first, second) == mcnemar(second, first)

    def test_by_hand(self):
        assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0
        assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)
        assert 0 < mcnemar(900, 2_100) < 1e-100

    def test_refusal(self):
        with pytest.raises(ParameterError, match="negative"):
            mcnemar(-1, 3)


@pytest.mark.parametrize(
    "measure",
    [accuracy, macro_f1, lambda t, p: confusion(t, p, classes=3), lambda t, p: accuracy_interval(t, p, groups=["a"])],
)
@pytest.mark.parametrize(("truth", "predicted"), [([], []), ([0, 1], [0]), ([0], [0, 1])])
def test_lengths(measure, truth, predicted):
    with pytest.raises(ParameterError, match=f"got {len(truth)} and {len(predicted)}"):
        measure(truth, predicted)


@pytest.mark.parametrize(("truth", "predicted"), [([0, 3], [0, 1]), ([0, 1], [0, -1]), ([7], [7])])
def test_confusion_of_unknown_classes(truth, predicted):
    with pytest.raises(ParameterError, match="from 0 to 2"):
        confusion(truth, predicted, classes=3)
