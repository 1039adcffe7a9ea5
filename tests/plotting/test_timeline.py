"""Spectrograms and timelines: values, positions, colours and labels."""

from __future__ import annotations

import subprocess
import sys

import librosa
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread

from musgenre.core.config import Prediction, Windows
from musgenre.core.errors import AudioError, MusgenreError, ParameterError
from musgenre.plotting import (
    COLOURS,
    NAMED_SHARE,
    OTHER_COLOUR,
    plot_spectrogram,
    plot_timeline,
    save_overview,
)

RATE = 22_050
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def predict(shares, *, labels=GENRES, hop_seconds=3.0, duration_seconds=None):
    shares = np.asarray(shares, dtype=np.float64)
    starts = np.arange(len(shares)) * hop_seconds
    song = dict(zip(labels, shares.mean(axis=0).tolist(), strict=True))
    return Prediction(song, Windows(starts, shares), duration_seconds or len(shares) * hop_seconds)


@pytest.fixture
def prediction():
    shares = np.full((4, 10), 0.02)
    shares[0, 1] = shares[1, 3] = shares[2, 3] = shares[3, 8] = 0.82
    return predict(shares, duration_seconds=11.0)


@pytest.fixture(scope="module")
def music():
    rng = np.random.default_rng(3)
    seconds = np.arange(4 * RATE) / RATE
    sweep = librosa.chirp(fmin=80, fmax=8_000, sr=RATE, length=seconds.size)
    return (0.5 * sweep * np.exp(-seconds / 2) + 0.01 * rng.standard_normal(seconds.size)).astype(np.float32)


def heights(ax):
    """Height of each area at the middle of each second that it covers: ``(areas, seconds)``."""
    end = int(ax.get_xlim()[1])
    rows = []
    for area in ax.collections:
        path = area.get_paths()[0].vertices
        edges = np.unique(path[:, 0])
        row = []
        for second in np.arange(end) + 0.5:
            left = edges[edges <= second].max()
            right = edges[edges > second].min()
            # A step's horizontal parts have both their ends among the vertices.
            ends = [set(path[path[:, 0] == edge, 1].round(9)) for edge in (left, right)]
            levels = sorted(ends[0] & ends[1])
            row.append((levels[0], levels[-1]))
        rows.append(row)
    return np.array(rows)


class TestSpectrogram:
    def test_values_equal_librosas(self, music):
        shown = plot_spectrogram(music, sample_rate=RATE).images[0].get_array()
        power = librosa.feature.melspectrogram(y=music.astype(np.float64), sr=RATE)
        expected = librosa.power_to_db(power, ref=np.max, top_db=80)
        np.testing.assert_allclose(shown, expected, atol=0.01)
        assert shown.max() == 0

    def test_labels_and_limits_of_the_axes(self, music):
        ax = plot_spectrogram(music, sample_rate=RATE)
        assert ax.get_xlabel() == "Time (s)"
        assert ax.get_ylabel() == "Frequency (Hz, mel scale)"
        assert ax.get_title(loc="left") == "Mel spectrogram"
        assert ax.get_xlim() == pytest.approx((0, 4))
        assert ax.get_ylim() == pytest.approx((0, librosa.hz_to_mel(RATE / 2)))
        assert ax.images[0].get_clim() == (-80, 0)

    def test_ticks_are_at_the_mels_of_their_frequencies(self, music):
        axis = plot_spectrogram(music, sample_rate=RATE).yaxis
        hertz = [float(text.get_text().replace(",", "")) for text in axis.get_ticklabels()]
        assert hertz[0] == 0
        assert hertz[-1] == 8_192
        np.testing.assert_allclose(axis.get_ticklocs(), librosa.hz_to_mel(hertz))

    @pytest.mark.parametrize("hertz", [200.0, 1_000.0, 5_000.0])
    def test_tone_is_at_its_frequency_and_onset(self, hertz):
        seconds = np.arange(2 * RATE) / RATE
        sound = 0.5 * np.sin(2 * np.pi * hertz * seconds) * (seconds > 1.5)
        image = plot_spectrogram(sound, sample_rate=RATE).images[0]
        left, right, bottom, top = image.get_extent()
        cells = np.asarray(image.get_array())
        rows, columns = cells.shape
        row, column = cells[:, -20].argmax(), (cells.max(axis=0) > -20).argmax()
        step = (top - bottom) / rows
        assert bottom + (row + 0.5) * step == pytest.approx(librosa.hz_to_mel(hertz), abs=step)
        assert left + (column + 0.5) * (right - left) / columns == pytest.approx(1.5, abs=2048 / RATE)

    def test_given_axes_keep_their_size(self, music):
        figure = Figure()
        ax = figure.subplots()
        bounds = ax.get_position().bounds
        assert plot_spectrogram(music, sample_rate=RATE, ax=ax) is ax
        assert ax.get_position().bounds == bounds
        assert [child.get_ylabel() for child in ax.child_axes] == ["Level (dB relative to the peak)"]

    def test_channels_are_mixed(self, music):
        mono, stereo = (plot_spectrogram(sound, sample_rate=RATE) for sound in (music, np.stack([music, music])))
        np.testing.assert_array_equal(mono.images[0].get_array(), stereo.images[0].get_array())

    @pytest.mark.parametrize(
        ("waveform", "rate", "kind"),
        [
            ([], RATE, AudioError),
            (np.full(RATE, np.nan), RATE, AudioError),
            (np.zeros((2, 2, RATE)), RATE, AudioError),
            (np.zeros(RATE), 0, ParameterError),
        ],
    )
    def test_invalid_audio_is_an_error(self, waveform, rate, kind):
        with pytest.raises(kind):
            plot_spectrogram(waveform, sample_rate=rate)


class TestTimeline:
    def test_areas_are_stacked_to_one(self, prediction):
        areas = heights(plot_timeline(prediction))
        np.testing.assert_allclose(areas[0, :, 0], 0)
        np.testing.assert_allclose(areas[1:, :, 0], areas[:-1, :, 1])
        np.testing.assert_allclose(areas[-1, :, 1], 1)

    def test_heights_are_the_probabilities_of_the_windows(self, prediction):
        areas = heights(plot_timeline(prediction))
        shares = (areas[:, :, 1] - areas[:, :, 0]).T
        window = np.arange(11) // 3
        np.testing.assert_allclose(shares[:, :3], prediction.windows.probabilities[window][:, [1, 3, 8]])

    def test_legend_lists_the_genres_probable_in_any_window(self, prediction):
        ax = plot_timeline(prediction)
        assert len(ax.collections) == 4
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names == ["other", "reggae", "disco", "classical"]  # from top to bottom

    def test_named_share_must_be_reached_in_one_window(self):
        shares = np.array([[1 - NAMED_SHARE, NAMED_SHARE], [1, 0]])
        below = np.array([[1.01 - NAMED_SHARE, NAMED_SHARE - 0.01], [1, 0]])
        named = [plot_timeline(predict(rows, labels=("a", "b"))).get_legend().get_texts() for rows in (shares, below)]
        assert [[text.get_text() for text in texts] for texts in named] == [["b", "a"], ["other", "a"]]

    def test_predicted_genre_is_always_named(self):
        shares = np.full((2, 10), 0.1)
        shares[:, 6] += 0.01
        shares[:, 0] -= 0.01
        texts = plot_timeline(predict(shares)).get_legend().get_texts()
        assert [text.get_text() for text in texts] == ["other", "metal"]

    def test_no_other_area_if_all_genres_are_named(self):
        texts = plot_timeline(predict(np.eye(10))).get_legend().get_texts()
        assert [text.get_text() for text in texts] == list(GENRES[::-1])

    def test_colours_depend_on_the_label_index(self, prediction):
        colours = [tuple(area.get_facecolor()[0]) for area in plot_timeline(prediction).collections]
        assert colours == [to_rgba(colour) for colour in (COLOURS[1], COLOURS[3], COLOURS[8], OTHER_COLOUR)]
        assert len({*COLOURS, OTHER_COLOUR}) == 11

    def test_eleventh_label_is_hatched(self):
        labels = tuple(f"genre {i}" for i in range(12))
        areas = plot_timeline(predict(np.eye(12), labels=labels)).collections
        assert tuple(areas[10].get_facecolor()[0]) == tuple(areas[0].get_facecolor()[0])
        assert [bool(area.get_hatch()) for area in areas] == [False] * 10 + [True] * 2

    def test_labels_and_limits_of_the_axes(self, prediction):
        ax = plot_timeline(prediction)
        ax.figure.draw_without_rendering()
        assert ax.get_xlabel() == "Time (s)"
        assert ax.get_ylabel() == "Probability"
        assert ax.get_xlim() == (0, 11)
        assert ax.get_ylim() == (0, 1)
        assert ax.get_yticklabels()[-1].get_text() == "100 %"
        assert ax.get_title(loc="left") == "Genre over time: disco, 42 %"

    def test_clip_shorter_than_a_window(self):
        ax = plot_timeline(predict([[0.4, 0.6]], labels=("a", "b"), duration_seconds=1.25))
        assert ax.get_xlim() == (0, 1.25)

    def test_labels_may_contain_dollars_and_underscores(self, tmp_path):
        ax = plot_timeline(predict([[0.4, 0.6]], labels=("_cheap_", "$5 & $\\frac")))
        ax.figure.savefig(tmp_path / "figure.png")
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$5 & $\\frac", "_cheap_"]

    def test_outlines_of_many_windows_are_thin(self):
        shares = np.random.default_rng(0).dirichlet(np.ones(10), 1_200)
        assert plot_timeline(predict(shares)).collections[0].get_linewidth()[0] < 0.1

    def test_prediction_without_windows_is_an_error(self):
        empty = Prediction({"a": 0.5, "b": 0.5}, Windows(np.empty(0), np.empty((0, 2))), 3.0)
        with pytest.raises(ParameterError, match="contains no windows"):
            plot_timeline(empty)


class TestOverview:
    def test_file_shows_two_aligned_panels(self, music, prediction, saved_figures, tmp_path):
        path = tmp_path / "song.png"
        save_overview(music, sample_rate=RATE, prediction=prediction, path=path)
        assert imread(path).shape == (700, 1200, 4)
        assert list(tmp_path.iterdir()) == [path]
        upper, lower = saved_figures[0].axes[:2]
        assert upper.get_position().x0 == pytest.approx(lower.get_position().x0)
        assert upper.get_position().x1 == pytest.approx(lower.get_position().x1)
        assert upper.get_position().y0 > lower.get_position().y1
        assert upper.get_xlim() == lower.get_xlim() == (0, 11)
        assert upper.images
        assert lower.collections

    def test_everything_is_inside_the_figure(self, music, prediction, saved_figures, tmp_path):
        save_overview(music, sample_rate=RATE, prediction=prediction, path=tmp_path / "song.png")
        figure = saved_figures[0]
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height

    def test_existing_file_is_replaced_whatever_its_suffix(self, music, prediction, tmp_path):
        path = tmp_path / "song.image"
        path.write_text("old")
        save_overview(music, sample_rate=RATE, prediction=prediction, path=str(path))
        assert path.read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize("path", ["missing/song.png", "file.txt/song.png", "folder"])
    def test_path_that_cannot_be_written_is_an_error(self, music, prediction, tmp_path, path):
        (tmp_path / "file.txt").write_text("")
        (tmp_path / "folder").mkdir()
        with pytest.raises(MusgenreError, match="could not be written"):
            save_overview(music, sample_rate=RATE, prediction=prediction, path=tmp_path / path)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["file.txt", "folder"]

    def test_failed_write_leaves_the_old_file(self, music, prediction, tmp_path, monkeypatch):
        path = tmp_path / "song.png"
        path.write_text("old")

        def fill_the_disk(self, target, **kwargs):
            target.write_text("half a figure")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Figure, "savefig", fill_the_disk)
        with pytest.raises(ParameterError, match="No space left"):
            save_overview(music, sample_rate=RATE, prediction=prediction, path=path)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("song.png", "old")]


@pytest.mark.slow
def test_pyplot_is_not_imported(tmp_path):
    code = """
import sys
import numpy as np
from musgenre.plotting import save_overview
from musgenre.core.config import Prediction, Windows
assert "matplotlib" not in sys.modules
prediction = Prediction({"a": 0.4, "b": 0.6}, Windows(np.zeros(1), np.array([[0.4, 0.6]])), 1.0)
save_overview(np.ones(8_000), sample_rate=8_000, prediction=prediction, path=sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "song.png"], check=True)
