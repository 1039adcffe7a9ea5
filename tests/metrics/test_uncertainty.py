"""Bootstrap intervals and McNemar's test, compared with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.core.errors import ParameterError
from musgenre.metrics import accuracy, accuracy_interval, bootstrap_interval, mcnemar

SETTINGS = settings(deadline=None)


def _split(both: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [truth for truth, _ in both], [predicted for _, predicted in both]


class TestAccuracyInterval:
    def test_all_correct_and_all_wrong(self):
        groups = list("aabbcc")
        assert accuracy_interval([0] * 6, [0] * 6, groups=groups) == (1.0, 1.0)
        assert accuracy_interval([0] * 6, [1] * 6, groups=groups) == (0.0, 0.0)

    @SETTINGS
    @given(both=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=8, max_size=60))
    def test_contains_the_point_estimate(self, both):
        truth, predicted = _split(both)
        low, high = accuracy_interval(truth, predicted, groups=[str(index) for index in range(len(both))], draws=300)
        assert 0 <= low <= accuracy(truth, predicted) <= high <= 1

    def test_fewer_groups_widen_the_interval(self):
        def width(groups: int) -> float:
            # 120 tracks; all tracks of every second group are correct.
            group = np.arange(120) * groups // 120
            low, high = accuracy_interval([1] * 120, (group % 2).tolist(), groups=[str(g) for g in group])
            assert (low + high) / 2 == pytest.approx(0.5, abs=0.05)
            return high - low

        # The standard deviation of the mean of n coin flips is proportional to 1 / sqrt(n).
        assert width(120) == pytest.approx(2 * 1.96 * 0.5 / 120**0.5, rel=0.1)
        assert width(30) == pytest.approx(2 * 1.96 * 0.5 / 30**0.5, rel=0.15)
        assert width(120) < width(30) < width(10) < width(4)

    def test_tracks_of_a_group_are_resampled_together(self):
        truth, predicted = [1] * 40, [1, 0] * 20
        ungrouped = accuracy_interval(truth, predicted, groups=[str(index) for index in range(40)])
        uniform_artists = accuracy_interval(truth, predicted, groups=[f"{i % 2}{i // 8}" for i in range(40)])
        mixed_artists = accuracy_interval(truth, predicted, groups=[str(index // 2) for index in range(40)])
        assert mixed_artists == (0.5, 0.5)
        assert uniform_artists[1] - uniform_artists[0] > ungrouped[1] - ungrouped[0]

    def test_single_group_has_no_width(self):
        assert accuracy_interval([1, 1, 1, 1], [1, 1, 1, 0], groups=["a"] * 4) == (0.75, 0.75)

    def test_equals_scipys_bootstrap_over_groups(self):
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

    def test_coverage(self):
        # 95 % of the intervals contain the true value; with 30 groups the percentile bootstrap covers slightly less.
        random = np.random.default_rng(0)
        groups = np.repeat(np.arange(30), 4)
        covered = 0
        for seed in range(200):
            right = random.random(120) < random.beta(4, 4, size=30)[groups]
            low, high = accuracy_interval(
                [1] * 120, right.astype(int).tolist(), groups=[str(g) for g in groups], draws=400, seed=seed
            )
            covered += low <= 0.5 <= high
        assert 0.88 <= covered / 200 <= 0.99

    def test_seed(self):
        predicted = np.random.default_rng(0).integers(2, size=80).tolist()
        groups = [str(index % 50) for index in range(80)]
        first, again, other = (
            accuracy_interval([1] * 80, predicted, groups=groups, draws=50, seed=seed) for seed in (3, 3, 4)
        )
        assert first == again
        assert first != other

    @pytest.mark.parametrize("groups", [[], ["a"], ["a", "b", "c"]])
    def test_number_of_groups_differs(self, groups):
        with pytest.raises(ParameterError, match=f"a group for each of 2 tracks, got {len(groups)}"):
            accuracy_interval([0, 1], [0, 1], groups=groups)

    def test_draws_below_one(self):
        with pytest.raises(ParameterError, match="draws"):
            accuracy_interval([0, 1], [0, 1], groups=["a", "b"], draws=0)


class TestBootstrap:
    def test_any_statistic_against_scipy(self):
        random = np.random.default_rng(2)
        values = random.normal(size=80)
        ours = bootstrap_interval(
            lambda rows: float(np.median(values[rows])), groups=[str(i) for i in range(80)], draws=4_000
        )
        # Without a seed, because SciPy renamed that parameter: the limits vary by less than half of the tolerance.
        theirs = scipy.stats.bootstrap((values,), np.median, method="percentile", n_resamples=4_000).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.05)

    def test_all_tracks_of_a_group_are_drawn(self):
        groups = ["b", "a", "b", "c", "b", "c"]
        drawn = []

        def record(rows):
            drawn.append(tuple(np.bincount(rows, minlength=6)))
            return 0.0

        bootstrap_interval(record, groups=groups, draws=50)
        for times in drawn:
            assert times[0] == times[2] == times[4]
            assert times[3] == times[5]
            assert times[0] + times[1] + times[3] == 3
        assert len(set(drawn)) > 5

    def test_invalid_arguments(self):
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

    def test_values_by_hand(self):
        assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0
        assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)
        assert 0 < mcnemar(900, 2_100) < 1e-100

    def test_invalid_arguments(self):
        with pytest.raises(ParameterError, match="negative"):
            mcnemar(-1, 3)
