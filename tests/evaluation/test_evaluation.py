"""Reports, against other libraries and facts made by hand, with a classifier whose answers are known."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import sys
import threading
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torchmetrics.functional.classification import multiclass_calibration_error

import musgenre
from musgenre.backbones.base import BACKBONES
from musgenre.core.config import AudioSpec, Component, Prediction, Windows
from musgenre.core.errors import (
    AudioFileError,
    ConfigError,
    DatasetError,
    MusgenreError,
    ParameterError,
    PluginError,
    TrainingError,
)
from musgenre.datasets import AudioFolder, MissingTrack, Track, TrackDataset
from musgenre.evaluation import (
    CrossValidationReport,
    EvaluationReport,
    compare,
    cross_validate,
    evaluate,
    plugins,
)
from musgenre.evaluation import fold as fold_module
from musgenre.evaluation import scores as scores_module
from musgenre.features.base import FEATURES
from musgenre.metrics import accuracy_interval, track_probabilities
from musgenre.training.config import FinetuneConfig
from musgenre.training.recipes import Recipe, preset

LABELS = ("blues", "jazz", "metal", "pop", "rock")
QUICK = settings(max_examples=6, deadline=None)


def song(number, *, label, group=None):
    return Track(f"{number:03d}", Path(f"{number:03d}.wav"), label, group, duration_seconds=9.0)


def dataset(size=60, *, per_group=3, labels=LABELS):
    tracks = [
        song(n, label=labels[n // per_group % len(labels)], group=f"artist {n // per_group}") for n in range(size)
    ]
    return TrackDataset(tracks, labels=labels, name="made")


class Fake:
    """Hears what the name of a file says, however often it is asked."""

    def __init__(self, labels=LABELS, *, salt=0, name="fake"):
        self.labels = labels
        self.config = SimpleNamespace(name=name, split="12 tracks of elsewhere")
        self.salt = salt
        self.asked = []

    def rows(self, path):
        random = np.random.default_rng([zlib.crc32(str(path).encode()), self.salt])
        # Drawn for sorted labels, so that the order in which a model has them changes nothing.
        drawn = random.dirichlet(np.full(len(self.labels), 0.6), size=random.integers(1, 5))
        return drawn[:, [sorted(self.labels).index(label) for label in self.labels]]

    def predict(self, path):
        self.asked.append(path)
        rows = self.rows(path)
        probabilities = dict(zip(self.labels, track_probabilities(rows).tolist(), strict=True))
        return Prediction(probabilities, Windows(3.0 * np.arange(len(rows)), rows), 9.0)


def figures(report):
    """What does not depend on the order of tracks or labels."""
    pairs = dataclasses.asdict(report)
    for name in ("predictions", "confusion", "labels", "genres", "reliability", "windows"):
        del pairs[name]
    return {name: pytest.approx(value) for name, value in pairs.items()} | {
        name: value for name, value in pairs.items() if value is None or isinstance(value, str)
    }


def numbers(scores):
    """What of scores does not depend on the order of labels."""
    return {name: pytest.approx(getattr(scores, name)) for name in ("accuracy", "macro_f1", "top3_accuracy")} | {
        "accuracy_interval": pytest.approx(scores.accuracy_interval),
        "macro_f1_interval": pytest.approx(scores.macro_f1_interval),
        "calibration_error": pytest.approx(scores.calibration_error),
        "count": scores.count,
    }


@pytest.fixture(scope="module")
def report():
    return evaluate(Fake(), dataset())


class TestFigures:
    def test_tracks(self, report):
        data, fake = dataset(), Fake()
        truth = [LABELS.index(track.label) for track in data]
        shares = np.array([track_probabilities(fake.rows(track.path)) for track in data])
        predicted = shares.argmax(axis=1)
        assert report.tracks == 60
        assert report.groups == 20
        assert report.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
        assert report.macro_f1 == pytest.approx(sklearn.metrics.f1_score(truth, predicted, average="macro"))
        assert report.top3_accuracy == pytest.approx(sklearn.metrics.top_k_accuracy_score(truth, shares, k=3))
        np.testing.assert_array_equal(report.confusion, sklearn.metrics.confusion_matrix(truth, predicted))
        columns = sklearn.metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)
        for place, label in enumerate(LABELS):
            assert dataclasses.astuple(report.genres[label]) == pytest.approx([column[place] for column in columns])
        expected = multiclass_calibration_error(torch.tensor(shares), torch.tensor(truth), num_classes=5, n_bins=15)
        assert report.calibration_error == pytest.approx(float(expected), abs=1e-6)
        assert [row.predicted for row in report.predictions] == [LABELS[place] for place in predicted]
        np.testing.assert_allclose([row.probabilities for row in report.predictions], shares)

    def test_windows(self, report):
        data, fake = dataset(), Fake()
        rows = [fake.rows(track.path) for track in data]
        truth = np.repeat([LABELS.index(track.label) for track in data], [len(part) for part in rows])
        shares = np.concatenate(rows)
        predicted = shares.argmax(axis=1)
        of = report.windows
        assert of.count == len(shares) > 100
        assert of.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
        assert of.macro_f1 == pytest.approx(sklearn.metrics.f1_score(truth, predicted, average="macro"))
        assert of.top3_accuracy == pytest.approx(sklearn.metrics.top_k_accuracy_score(truth, shares, k=3))
        np.testing.assert_array_equal(of.confusion, sklearn.metrics.confusion_matrix(truth, predicted))
        columns = sklearn.metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)
        for place, label in enumerate(LABELS):
            assert dataclasses.astuple(of.genres[label]) == pytest.approx([column[place] for column in columns])
        expected = multiclass_calibration_error(torch.tensor(shares), torch.tensor(truth), num_classes=5, n_bins=15)
        assert of.calibration_error == pytest.approx(float(expected), abs=1e-6)
        assert of.calibration_error != pytest.approx(report.calibration_error, abs=0.01)

    def test_the_intervals_of_windows_are_over_artists_too(self, report):
        data, fake = dataset(), Fake()
        rows = [fake.rows(track.path) for track in data]
        right = [(row.argmax(axis=1) == LABELS.index(t.label)).tolist() for row, t in zip(rows, data, strict=True)]
        groups = [track.group for track, row in zip(data, rows, strict=True) for _ in row]
        hits = np.concatenate(right).astype(int)
        # Groups are drawn, so that windows in place of tracks change nothing of the draws.
        assert report.windows.accuracy_interval == pytest.approx(
            accuracy_interval(np.ones_like(hits), hits, groups=groups)
        )

    def test_intervals_are_over_artists(self, report):
        truth = [LABELS.index(row.label) for row in report.predictions]
        predicted = [LABELS.index(row.predicted) for row in report.predictions]
        groups = [row.group for row in report.predictions]
        assert report.accuracy_interval == accuracy_interval(truth, predicted, groups=groups)
        drawn = []
        random = np.random.default_rng(1)
        members = {group: np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))}
        for _ in range(400):
            taken = np.concatenate([members[group] for group in random.choice(list(members), len(members))])
            f1 = sklearn.metrics.f1_score(
                np.array(truth)[taken], np.array(predicted)[taken], average="macro", zero_division=0
            )
            drawn.append(f1)
        assert report.macro_f1_interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.03)

    def test_a_track_without_a_group_is_its_own_whatever_its_name(self):
        tracks = [song(0, label="jazz"), song(1, label="jazz", group="000"), song(2, label="pop", group="000")]
        report = evaluate(Fake(), TrackDataset(tracks, labels=LABELS, name="made"))
        assert report.groups == 2
        assert "2 groups" in report.to_markdown()

    def test_a_report_says_when_no_artist_is_known(self):
        tracks = [song(n, label="jazz") for n in range(3)]
        text = evaluate(Fake(), TrackDataset(tracks, labels=LABELS, name="made")).to_markdown()
        assert "no groups known, so that the intervals are over tracks" in text

    @QUICK
    @given(seed=st.integers(0, 999))
    def test_the_order_of_tracks_does_not_matter(self, report, seed):
        data = dataset()
        order = np.random.default_rng(seed).permutation(len(data))
        shuffled = evaluate(Fake(), data.select(data[place].id for place in order))
        for name, value in figures(report).items():
            assert getattr(shuffled, name) == value, name
        for name, value in numbers(report.windows).items():
            assert getattr(shuffled.windows, name) == value, name
        assert shuffled.confusion == report.confusion
        assert shuffled.windows.confusion == report.windows.confusion
        assert sorted(shuffled.predictions, key=lambda row: row.id) == list(report.predictions)

    @QUICK
    @given(order=st.permutations(range(5)))
    def test_the_order_of_labels_does_not_matter(self, report, order):
        labels = tuple(LABELS[place] for place in order)
        other = evaluate(Fake(labels), dataset())
        for name, value in figures(report).items():
            assert getattr(other, name) == value
        for name, value in numbers(report.windows).items():
            assert getattr(other.windows, name) == value
        assert other.labels == labels
        for one, two in ((other, report), (other.windows, report.windows)):
            np.testing.assert_array_equal(one.confusion, np.array(two.confusion)[np.ix_(order, order)])
            assert one.genres == two.genres

    def test_a_dataset_may_lack_genres_and_may_not_add_any(self):
        few = dataset(labels=("rock", "jazz"))
        report = evaluate(Fake(), few)
        assert report.labels == LABELS
        assert [report.genres[label].support for label in LABELS] == [0, 30, 0, 0, 30]
        with pytest.raises(DatasetError, match="zydeco"):
            evaluate(Fake(), dataset(labels=("rock", "zydeco")))

    def test_what_was_left_out_before_is_counted(self):
        data = dataset()
        data = TrackDataset(data.tracks, labels=LABELS, name="made", split="test", missing=[MissingTrack("x", "gone")])
        report = evaluate(Fake(), data)
        assert report.missing == 1
        assert "1 more could not be read" in report.to_markdown()
        assert report.dataset == "made (test)"

    def test_a_track_that_does_not_decode_is_an_error_that_names_it(self):
        class Deaf(Fake):
            def predict(self, path):
                if path.stem == "017":
                    raise AudioFileError("no audio")
                return super().predict(path)

        with pytest.raises(DatasetError, match=r"'017'.*no audio"):
            evaluate(Deaf(), dataset())

    def test_a_probability_that_is_no_number_is_an_error_that_names_the_track(self):
        class Mad(Fake):
            def rows(self, path):
                return np.full((2, 5), np.nan) if path.stem == "017" else super().rows(path)

        with pytest.raises(DatasetError, match="'017'"):
            evaluate(Mad(), dataset())

    def test_a_real_classifier(self, genre_folder):
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


class TestLeaks:
    @pytest.fixture
    def leaky(self):
        data = dataset()
        return evaluate(Fake(), data, trained_on=data.select(["000", "001"]), allow_leakage=True)

    def test_a_leak_is_refused_before_anything_is_predicted(self):
        data, fake = dataset(), Fake()
        with pytest.raises(DatasetError, match="track 000, 001 on both"):
            evaluate(fake, data, trained_on=data.select(["000", "001"]))
        artist = TrackDataset([song(99, label="jazz", group="artist 3")], labels=LABELS, name="other")
        with pytest.raises(DatasetError, match="group artist 3 on both"):
            evaluate(fake, data, trained_on=artist)
        assert fake.asked == []

    def test_it_is_marked_wherever_it_is_shown(self, leaky, report, tmp_path, figures_saved):
        assert leaky.leaky
        assert json.loads(leaky.to_json())["leaky"] is True
        assert leaky.to_markdown().splitlines()[0] == "# fake on made (leaky)"
        assert "**Leaky" in leaky.to_markdown()
        leaky.plot(tmp_path / "leaky.png")
        assert "leaky" in figures_saved[0].get_suptitle()
        assert compare(leaky, report).leaky
        assert compare(report, leaky).leaky

    def test_a_clean_report_does_not_say_so(self, report, tmp_path, figures_saved):
        data = dataset()
        clean = evaluate(Fake(), data.select(["000"]), trained_on=data.select(["010", "020"]), allow_leakage=True)
        assert not clean.leaky
        assert "leaky" not in (clean.to_markdown() + report.to_markdown()).lower()
        report.plot(tmp_path / "clean.png")
        assert figures_saved[0].get_suptitle() == "fake on made"
        assert not compare(report, report).leaky

    def test_other_labels_are_refused_in_any_case(self):
        data = dataset()
        other = TrackDataset(data.tracks, labels=LABELS[::-1], name="made")
        with pytest.raises(DatasetError, match="labels"):
            evaluate(Fake(), data, trained_on=other, allow_leakage=True)


@pytest.fixture
def figures_saved(monkeypatch):
    saved, save = [], Figure.savefig

    def record(self, *args, **kwargs):
        saved.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record)
    return saved


class TestFiles:
    def test_a_round_trip_changes_nothing(self, report, tmp_path):
        report.save(tmp_path / "report.json")
        assert EvaluationReport.load(tmp_path / "report.json") == report
        assert EvaluationReport.from_dict(report.to_dict()) == report
        assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report.to_dict()
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"accurracy": 0.5}, "accurracy"),
            ({"accuracy": "0.5"}, "accuracy"),
            ({"leaky": 1}, "leaky"),
            ({"tracks": True}, "tracks"),
            ({"accuracy_interval": [0.1]}, "accuracy_interval"),
            ({"predictions": {"000": "jazz"}}, "EvaluationReport"),
            ({"predictions": []}, "each of 60 tracks"),
            ({"labels": list(LABELS[1:])}, "does not fit the labels"),
            ({"confusion": [[1.5]]}, "confusion"),
        ],
    )
    def test_what_is_no_report_is_refused(self, report, change, told):
        with pytest.raises(ConfigError, match=told):
            EvaluationReport.from_dict(report.to_dict() | change)

    def test_a_track_that_stands_twice_is_refused(self, report):
        pairs = report.to_dict()
        pairs["predictions"][1] = pairs["predictions"][0]
        with pytest.raises(ConfigError, match="each once"):
            EvaluationReport.from_dict(pairs)

    @pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path, text):
        path = tmp_path / "report.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError, match=r"report\.json"):
            EvaluationReport.load(path)

    def test_a_failure_half_way_leaves_the_old_file(self, report, tmp_path, monkeypatch):
        path = tmp_path / "report.json"
        path.write_text("old")

        def fill_the_disk(self, text, **kwargs):
            self.write_bytes(text[:10].encode())
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", fill_the_disk)
        with pytest.raises(ParameterError, match="No space left"):
            report.save(path)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.json", "old")]

    def test_markdown_shows_the_figures(self, report):
        text = report.to_markdown()
        low, high = report.accuracy_interval
        accuracy = f"| accuracy | {100 * report.accuracy:.1f} % | {100 * low:.1f} – {100 * high:.1f} % |"
        assert f"{accuracy} {100 * report.windows.accuracy:.1f} % |" in text
        assert f"| macro F1 | {report.macro_f1:.3f} |" in text
        assert f"| top-3 accuracy | {100 * report.top3_accuracy:.1f} % |  | " in text
        jazz, windows = report.genres["jazz"], report.windows.genres["jazz"]
        row = f"| jazz | {100 * jazz.precision:.1f} % | {100 * jazz.recall:.1f} % | {jazz.f1:.3f} | 12 |"
        assert f"{row} {100 * windows.precision:.1f} % |" in text
        assert f"| {windows.f1:.3f} | {windows.support} |\n" in text
        assert "20 groups" in text
        assert f"| jazz | {' | '.join(map(str, report.confusion[1]))} |" in text
        assert "The model: 12 tracks of elsewhere." in text

    def test_the_picture_shows_confusion_and_calibration(self, report, tmp_path, figures_saved):
        report.plot(tmp_path / "report.png")
        assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
        left, right = figures_saved[0].axes
        counts = np.array(report.confusion)
        np.testing.assert_allclose(left.images[0].get_array(), counts / counts.sum(axis=1, keepdims=True))
        assert [text.get_text() for text in left.get_yticklabels()] == list(LABELS)
        assert right.get_title(loc="left") == f"Calibration error: {report.calibration_error:.3f}"


class TestCompare:
    def test_counts_and_p_value(self, report):
        other = evaluate(Fake(salt=1), dataset())
        right = np.array([[row.label == row.predicted for row in of.predictions] for of in (report, other)])
        found = compare(report, other)
        assert found.n01 == (~right[0] & right[1]).sum() > 0
        assert found.n10 == (right[0] & ~right[1]).sum() > 0
        assert found.n01 != found.n10
        assert found.p_value == pytest.approx(scipy.stats.binomtest(found.n01, found.n01 + found.n10).pvalue)
        assert (found.accuracy_a, found.accuracy_b) == (report.accuracy, other.accuracy)
        back = compare(other, report)
        assert (back.n01, back.n10, back.p_value) == (found.n10, found.n01, found.p_value)

    def test_a_classifier_equals_itself_in_any_order(self, report):
        data = dataset()
        backwards = evaluate(Fake(), data.select(track.id for track in reversed(data.tracks)))
        found = compare(report, backwards)
        assert (found.n01, found.n10, found.p_value) == (0, 0, 1.0)

    def test_other_tracks_are_refused_and_named(self, report):
        data = dataset()
        fewer = evaluate(Fake(), data.select(track.id for track in data if track.id != "042"))
        for pair in ((report, fewer), (fewer, report)):
            with pytest.raises(DatasetError, match="042"):
                compare(*pair)

    def test_other_genres_are_refused_and_named(self, report):
        data = dataset()
        tracks = [dataclasses.replace(t, label="blues") if t.id == "042" else t for t in data]
        assert data[42].label != "blues"
        with pytest.raises(DatasetError, match="042"):
            compare(report, evaluate(Fake(), TrackDataset(tracks, labels=LABELS, name="made")))


@pytest.fixture
def trained(monkeypatch):
    """Puts a classifier that is known in place of fine-tuning, and leaves out intervals; gives what was trained."""
    calls = []
    monkeypatch.setattr(scores_module, "bootstrap_interval", lambda *_, **__: (0.0, 1.0))

    def finetune(train, *, backbone, feature, config, **options):
        calls.append((train, config.seed))
        finetune.options.append(options)
        return SimpleNamespace(classifier=Fake())

    finetune.options = []
    monkeypatch.setattr(fold_module, "finetune", finetune)
    return calls


class TestCrossValidation:
    def test_every_track_is_judged_once_a_seed_by_a_model_that_knows_nothing_of_its_artist(self, trained):
        data = dataset()
        report = cross_validate(data, folds=4, seeds=(3, 5))
        assert [seed for _, seed in trained] == [3] * 4 + [5] * 4
        assert [(row.seed, row.fold) for row in report.scores] == [(s, f) for s in (3, 5) for f in range(4)]
        for pooled in report.pooled:
            assert sorted(row.id for row in pooled.predictions) == [track.id for track in data]
        for train, seed in trained:
            seen = {track.group for track in train}
            places = [place for place, (other, s) in enumerate(trained) if other is train and s == seed]
            held = [track for track in data if track.id not in {other.id for other in train}]
            assert seen.isdisjoint({track.group for track in held})
            assert report.scores[places[0]].tracks == len(held)

    def test_pooled_figures_are_those_of_all_tracks_at_once(self, trained, report):
        pooled = cross_validate(dataset(), folds=4).pooled[0]
        expected = figures(report)
        for name in expected.keys() - {"model", "trained_on", "accuracy_interval", "macro_f1_interval"}:
            assert getattr(pooled, name) == expected[name], name
        np.testing.assert_allclose(pooled.windows.reliability, report.windows.reliability)
        for one, two in ((pooled, report), (pooled.windows, report.windows)):
            assert one.confusion == two.confusion
            assert one.genres == two.genres
            assert one.top3_accuracy == two.top3_accuracy

    def test_mean_and_deviations(self, trained):
        report = cross_validate(dataset(), folds=4, seeds=(0, 1, 2))
        values = np.reshape([row.accuracy for row in report.scores], (3, 4))
        assert report.accuracy.mean == pytest.approx(values.mean())
        assert report.accuracy.fold_deviation == pytest.approx(np.std(values, ddof=1))
        assert report.accuracy.seed_deviation == pytest.approx(np.std(values.mean(axis=1), ddof=1))
        assert report.accuracy.fold_deviation > report.accuracy.seed_deviation > 0
        assert report.calibration_error.mean == pytest.approx(np.mean([row.calibration_error for row in report.scores]))
        assert cross_validate(dataset(), folds=4).accuracy.seed_deviation is None

    def test_a_round_trip_changes_nothing(self, trained, tmp_path):
        recipe = Recipe(Component("vgg16-slim", {"width": 0.1}), config=FinetuneConfig(hidden=(8, 4)))
        report = cross_validate(dataset(), recipe=recipe, folds=4)
        report.save(tmp_path / "report.json")
        assert CrossValidationReport.load(tmp_path / "report.json") == report
        assert report.recipe["config"]["hidden"] == (8, 4)
        text = report.to_markdown()
        assert text.startswith("# vgg16-slim on made: 4 folds")
        assert f"| accuracy | {report.accuracy.mean:.3f} | {report.accuracy.fold_deviation:.3f} |" in text
        assert text.count("\n## ") == 1

    def test_an_interrupted_run_goes_on(self, monkeypatch, trained, tmp_path):
        whole = cross_validate(dataset(), folds=4, seeds=(0, 1))
        count = len(trained)
        assert count == 8
        finetune = fold_module.finetune

        def interrupt(train, **options):
            if len(trained) == count + 3:
                raise KeyboardInterrupt
            return finetune(train, **options)

        monkeypatch.setattr(fold_module, "finetune", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(dataset(), folds=4, seeds=(0, 1), directory=tmp_path / "a" / "b")
        names = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
        assert names == ["seed0-fold0.json", "seed0-fold1.json", "seed0-fold2.json"]
        monkeypatch.setattr(fold_module, "finetune", finetune)
        quiet = Recipe(config=FinetuneConfig(cache=tmp_path / "kept", name="mine"))
        again = cross_validate(
            dataset(), recipe=quiet, folds=4, seeds=(0, 1), directory=tmp_path / "a" / "b", workers=2
        )
        assert len(trained) == count + 8
        assert again == whole
        cross_validate(dataset(), folds=4, seeds=(0, 1), directory=tmp_path / "a" / "b")
        assert len(trained) == count + 8

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"recipe": Recipe(config=FinetuneConfig(epochs=9))}, "recipe"),
            ({"recipe": Recipe("vgg16-slim")}, "recipe"),
            ({"dataset": dataset(57)}, "tracks"),
            ({"folds": 3}, "tracks"),
            ({"version": "9.9"}, "version"),
        ],
    )
    def test_folds_of_another_run_are_refused_and_stay(self, trained, tmp_path, monkeypatch, options, told):
        cross_validate(dataset(), folds=4, directory=tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        (tmp_path / "seed0-fold0.json").unlink()  # what is left is looked at before this one is trained
        count = len(trained)
        options = {"dataset": dataset(), "folds": 4} | options
        if version := options.pop("version", None):
            monkeypatch.setattr(fold_module.importlib.metadata, "version", lambda _: version)
        with pytest.raises(ConfigError, match=rf"fold1.json.*other {told}\. Name another directory"):
            cross_validate(options.pop("dataset"), directory=tmp_path, **options)
        assert len(trained) == count
        assert before.items() > {path: path.read_bytes() for path in tmp_path.iterdir()}.items()

    def test_a_damaged_fold_is_named(self, trained, tmp_path):
        (tmp_path / "seed0-fold2.json").write_text("{")
        with pytest.raises(ConfigError, match="seed0-fold2"):
            cross_validate(dataset(), folds=4, directory=tmp_path)
        assert trained == []

    def test_a_leak_is_refused_before_training(self, trained):
        tracks = [dataclasses.replace(track, path=Path("same.wav"), group=None) for track in dataset()]
        with pytest.raises(DatasetError, match=r"same\.wav"):
            cross_validate(TrackDataset(tracks, labels=LABELS, name="made"), folds=4)
        assert trained == []

    def test_a_recording_in_two_files_is_refused_before_training(self, trained, genre_folder, tmp_path):
        shutil.copytree(genre_folder, tmp_path / "data")
        shutil.copy(tmp_path / "data" / "hiss" / "0.wav", tmp_path / "data" / "hiss" / "copy.wav")
        data = AudioFolder(tmp_path / "data")
        with pytest.raises(DatasetError, match=r"recording hiss/(0|copy)\.wav \(also hiss/(0|copy)\.wav\) on both"):
            cross_validate(data, folds=4)
        assert trained == []

    def test_tracks_are_divided_whatever_their_artist_only_if_leakage_is_allowed(self, trained, tmp_path):
        data = dataset()
        with pytest.raises(DatasetError, match=r"group artist .* on both sides"):
            cross_validate(data, folds=4, groups=None)
        assert trained == []
        report = cross_validate(data, folds=4, groups=None, allow_leakage=True, directory=tmp_path)
        assert report.leaky
        assert report.groups is None
        assert all(pooled.leaky for pooled in report.pooled)
        assert json.loads(report.to_json())["leaky"] is True
        assert report.to_markdown().splitlines()[0] == "# vgg16 on made: 4 folds (leaky)"
        assert report.to_markdown().count("**Leaky") == 2
        assert all({track.group for track in train} == {track.group for track in data} for train, _ in trained)
        with pytest.raises(DatasetError, match="group"):  # what is kept does not make it clean
            cross_validate(data, folds=4, groups=None, directory=tmp_path)

    def test_where_no_artist_is_known_there_is_nothing_to_allow(self, trained):
        tracks = [dataclasses.replace(track, group=None) for track in dataset()]
        data = TrackDataset(tracks, labels=LABELS, name="made")
        assert not cross_validate(data, folds=4, groups=None).leaky

    def test_clean_folds_are_not_called_leaky(self, trained):
        report = cross_validate(dataset(), folds=4, allow_leakage=True)
        assert not report.leaky
        assert report.to_markdown().startswith("# vgg16 on made: 4 folds, groups kept apart\n")
        assert "leaky" not in report.to_markdown().lower()

    def test_a_genre_of_one_track_is_refused_before_training(self, trained):
        data = TrackDataset([*dataset(), song(99, label="polka")], labels=(*LABELS, "polka"), name="made")
        with pytest.raises(DatasetError, match=r"polka \(1\)"):
            cross_validate(data, folds=4)
        assert trained == []

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"folds": 1}, "folds"),
            ({"groups": "album"}, "groups must be 'artist' or None"),
            ({"jobs": 0}, "jobs"),
            ({"jobs": -2}, "jobs"),
            ({"seeds": ()}, "seeds"),
            ({"seeds": (1, 1)}, "seeds"),
            ({"seeds": (-1,)}, "seeds"),
            ({"workers": -1}, "workers"),
            ({"job": 2}, r"no option 'job'\. Did you mean 'jobs'"),
            ({"resume": True}, "no option 'resume'"),
            ({"epochs": 3}, "what is learnt is the recipe's"),
        ],
    )
    def test_options_that_cannot_be_used(self, trained, wrong, told):
        with pytest.raises(ParameterError, match=told):
            cross_validate(dataset(), **wrong)
        assert trained == []

    def test_options_of_a_run_reach_it(self, trained):
        cross_validate(dataset(), folds=4, workers=2, progress=False, seeds=[1])
        assert fold_module.finetune.options == [{"workers": 2, "progress": False}] * 4

    def test_a_place_that_cannot_be_written(self, trained, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ParameterError, match="file"):
            cross_validate(dataset(), folds=4, directory=tmp_path / "file")
        assert trained == []


CONFIG = FinetuneConfig(audio=AudioSpec(8_000, window_seconds=1.0, hop_seconds=1.0), head_epochs=1, epochs=0)
MEL = Component("logmel", {"n_fft": 512, "hop_length": 128, "n_mels": 32})


class TestProcesses:
    @pytest.mark.slow
    def test_they_change_nothing(self, genre_folder, tmp_path):
        recipe = Recipe(Component("vgg16-slim", {"width": 0.05, "dense_units": 8}), MEL, CONFIG)
        data = AudioFolder(genre_folder)
        two = musgenre.cross_validate(data, recipe=recipe, folds=2, jobs=2, directory=tmp_path)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as many as each process has: with others, sums round in another order
        try:
            one = musgenre.cross_validate(data, recipe=recipe, folds=2, progress=False)
        finally:
            torch.set_num_threads(threads)
        assert len(list(tmp_path.iterdir())) == 2
        shares = [[row.probabilities for row in report.pooled[0].predictions] for report in (one, two)]
        np.testing.assert_allclose(*shares, atol=1e-4)
        assert one.pooled[0].windows.count == 16

    @pytest.mark.slow
    def test_what_is_registered_here_alone_reaches_them(self, genre_folder):
        def mel(*, sample_rate: int):
            return FEATURES.build("logmel", {"sample_rate": sample_rate, **MEL.options})

        def slim(*, in_channels: int = 1):
            return BACKBONES.build("vgg16-slim", {"in_channels": in_channels, "width": 0.05, "dense_units": 8})

        data = AudioFolder(genre_folder)
        recipe = Recipe("folds-slim", "folds-mel", CONFIG)
        with FEATURES.temporary("folds-mel", mel), BACKBONES.temporary("folds-slim", slim):
            report = musgenre.cross_validate(data, recipe=recipe, folds=2, jobs=2)
        assert report.recipe["backbone"]["name"] == "folds-slim"
        assert report.pooled[0].tracks == 8

    def test_what_cannot_be_sent_is_named(self, trained):
        lock = threading.Lock()

        def locked(*, in_channels: int):
            return lock

        with BACKBONES.temporary("locked", locked):
            with pytest.raises(PluginError, match=r"backbone 'locked' cannot be sent.*jobs=1"):
                cross_validate(dataset(), recipe=Recipe("locked", "logmel"), folds=4, jobs=2)
            cross_validate(dataset(), recipe=Recipe("locked", "logmel"), folds=4)  # trained here nothing travels

    def test_what_cannot_be_imported_there_is_named(self, monkeypatch):
        module = ModuleType("only_here")
        exec("def only(*, sample_rate): pass", vars(module))
        monkeypatch.setitem(sys.modules, "only_here", module)
        with FEATURES.temporary("only", module.only):
            parcels = plugins.packed(Recipe("vgg16-slim", "only"))
        assert [parcel[:2] for parcel in parcels] == [("feature", "only")]
        monkeypatch.delitem(sys.modules, "only_here")
        with pytest.raises(PluginError, match=r"feature 'only'.*only_here.*installed package"):
            plugins.unpack(parcels)

    def test_only_what_is_registered_here_travels(self):
        assert plugins.packed(Recipe("vgg16-slim", "mfcc")) == []

        def family(member: str):
            def make(*, in_channels: int = 1):
                return member

            return make

        with BACKBONES.temporary("family/", family):
            kind, name, _ = plugins.packed(Recipe("family/small", "mfcc"))[0]
        assert (kind, name) == ("backbone", "family/small")

    def test_a_run_that_breaks_off_is_told_without_its_network(self, monkeypatch):
        def finetune(*_, **__):
            raise TrainingError("The loss is NaN.", result=threading.Lock())

        monkeypatch.setattr(fold_module, "finetune", finetune)
        data = dataset()
        run = fold_module.FoldRun(data, data, Recipe(), seed=3, fold=1)
        with pytest.raises(MusgenreError, match=r"Seed 3, fold 1: The loss is NaN\.") as caught:
            run.finish_apart([])
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


class TestRecipe:
    def test_a_preset(self):
        chosen = preset("paper")
        assert Recipe.read("paper") == Recipe(chosen.backbone, chosen.feature, chosen.config)

    def test_a_name_or_a_file(self, tmp_path):
        assert Recipe.read("vgg16-slim") == Recipe("vgg16-slim")
        path = tmp_path / "recipe.json"
        config = {"head_epochs": 3, "hidden": [4], "freeze": "all", "cache": "kept", "audio": {"sample_rate": 8000}}
        path.write_text(json.dumps({"backbone": {"name": "vgg16", "options": {"weights": None}}, "config": config}))
        expected = FinetuneConfig(
            head_epochs=3, hidden=(4,), freeze="all", cache=Path("kept"), audio=AudioSpec(sample_rate=8_000)
        )
        assert Recipe.read(str(path)) == Recipe(Component("vgg16", {"weights": None}), config=expected)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (None, "recipe.json"),
            ("{", "recipe.json"),
            ("[]", "Recipe"),
            ('{"bakbone": "vgg16"}', "bakbone"),
            ('{"config": {"epochs": "3"}}', "epochs"),
            ('{"config": {"epoch": 3}}', "epoch"),
            ('{"config": {"batch_size": 0}}', "batch_size"),
        ],
    )
    def test_a_wrong_file_is_refused(self, tmp_path, text, told):
        path = tmp_path / "recipe.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError, match=told):
            Recipe.read(str(path))

    def test_a_name_and_its_component_are_one_recipe(self):
        assert Recipe("vgg16").described() == Recipe(Component("vgg16")).described()
        assert Recipe("vgg16").described() != Recipe("vgg16", "mfcc").described()
