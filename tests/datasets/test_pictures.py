"""Pictures of spectrograms: read as the spectrograms from which they were drawn, and used for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import librosa
import librosa.display
import matplotlib as mpl
import numpy as np
import pytest
import soundfile
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import musgenre
from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets import GTZAN, PictureFolder
from musgenre.features import LogMelImage
from musgenre.testing import check_feature
from musgenre.transforms import Colormap

RATE, SECONDS, COLUMNS = 22_050, 6.0, 150
TOLERANCE = 3 * 80 / 255  # decibels; matplotlib takes the next lower colour, and few colours of 8 bits are equal


def samples(genre: str, number: int) -> np.ndarray:
    """Low or high tones with a beat."""
    random = np.random.default_rng(number)
    time = np.arange(round(SECONDS * RATE)) / RATE
    tone = np.sin(2 * np.pi * {"low": 220, "high": 3_000}[genre] * (1 + 0.03 * number) * time)
    return 0.3 * tone * (1 + np.sin(9 * time)) / 2 + random.normal(scale=0.003, size=time.size)


def decibels(waveform: np.ndarray) -> np.ndarray:
    return librosa.power_to_db(librosa.feature.melspectrogram(y=waveform.astype(np.float32), sr=RATE), ref=np.max)


def picture(level: np.ndarray, *, width: int = COLUMNS, colormap: str = "magma") -> Image.Image:
    """Draw frames with one pixel for each band and ``width`` columns."""
    frames = np.floor((np.arange(width) + 0.5) * level.shape[1] / (width + 0.5)).astype(int)
    colors = mpl.colormaps[colormap](1 + level[::-1, frames] / 80, bytes=True)
    return Image.fromarray(colors[..., :3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures and recordings of each of two genres."""
    root = tmp_path_factory.mktemp("drawn")
    for genre in ("low", "high"):
        (root / "pictures" / genre).mkdir(parents=True)
        for number in range(4):
            waveform = samples(genre, number)
            picture(decibels(waveform)).save(root / "pictures" / genre / f"{number}.png")
            soundfile.write(root / f"{genre}{number}.wav", waveform, RATE)
    return root


@pytest.fixture(scope="module")
def pictures(folder):
    return PictureFolder(folder / "pictures", duration_seconds=SECONDS)


class TestReading:
    def test_levels_are_those_that_were_drawn(self, pictures):
        assert pictures.labels == ("high", "low")
        assert [track.id for track in pictures][:2] == ["high/0.png", "high/1.png"]
        for track in pictures:
            level = decibels(samples(track.label, int(track.id[-5])))
            found = track.spectrogram.decibels()
            frames = track.spectrogram.centres() // 512
            assert np.abs(found - level[:, frames]).max() < TOLERANCE
            assert track.duration_seconds == SECONDS

    @pytest.mark.parametrize(("suffix", "options"), [("jpg", {"quality": 95, "subsampling": 0}), ("jpeg", {})])
    def test_jpeg(self, folder, tmp_path, suffix, options):
        for genre in ("low", "high"):
            (tmp_path / genre).mkdir()
            with Image.open(folder / "pictures" / genre / "0.png") as image:
                image.save(tmp_path / genre / f"0.{suffix}", **options)
        lossy = PictureFolder(tmp_path, duration_seconds=SECONDS)
        level = decibels(samples("low", 0))
        found = lossy[1].spectrogram
        assert np.abs(found.decibels() - level[:, found.centres() // 512]).mean() < 3

    @pytest.mark.parametrize("colormap", ["viridis", "gray", "inferno"])
    def test_other_colormaps(self, tmp_path, colormap):
        level = decibels(samples("low", 0))
        for genre in ("a", "b"):
            (tmp_path / genre).mkdir()
            picture(level, colormap=colormap).save(tmp_path / genre / "0.png")
        found = PictureFolder(tmp_path, duration_seconds=SECONDS, colormap=colormap)[0].spectrogram
        assert np.abs(found.decibels() - level[:, found.centres() // 512]).max() < TOLERANCE
        with pytest.raises(DatasetError, match="its colours are not those of the colormap 'hot'"):
            PictureFolder(tmp_path, colormap="hot")

    def test_a_figure_of_librosa_in_the_frame_of_matplotlib(self, tmp_path):
        """An opaque figure of 432 × 288 pixels with matplotlib's margins and without axis labels."""
        level = decibels(samples("low", 1))
        for genre in ("a", "b"):
            (tmp_path / genre).mkdir()
            figure = Figure(figsize=(6, 4), dpi=72)
            axes = figure.add_axes((0.125, 0.11, 0.775, 0.77))  # the defaults of matplotlib's subplots
            librosa.display.specshow(level, sr=RATE, ax=axes, vmin=-80, vmax=0)
            axes.axis("off")
            figure.savefig(tmp_path / genre / "0.png")
        with Image.open(tmp_path / "a" / "0.png") as image:
            assert (image.size, image.mode) == ((432, 288), "RGBA")
        found = PictureFolder(tmp_path, crop="kaggle", duration_seconds=SECONDS)[0].spectrogram
        # The picture has 335 columns for 259 frames, and 222 rows for 128 bands.
        frames = np.minimum((np.arange(found.levels.shape[1]) + 0.5) * level.shape[1] / found.levels.shape[1], 258)
        assert np.median(np.abs(found.decibels() - level[:, frames.astype(int)])) < 1.5

    def test_ids_of_gtzan(self, folder, tmp_path):
        table = {row.id: row for row in musgenre.datasets.gtzan._read_table()}
        names = {"blues": "blues00000", "jazz": "jazz.00054", "rock": "my song"}
        for genre, name in names.items():
            (tmp_path / genre).mkdir()
            (tmp_path / genre / f"{name}.png").write_bytes((folder / "pictures" / "low" / "0.png").read_bytes())
        data = PictureFolder(tmp_path)
        assert [track.id for track in data] == ["blues.00000", "jazz.00054", "rock/my song.png"]
        assert [track.group for track in data] == [table["blues.00000"].group, table["jazz.00054"].group, None]
        assert data[1].fault == table["jazz.00054"].fault
        with pytest.warns(UserWarning, match="left out"):
            every = GTZAN(data, scheme="all")
        assert [track.id for track in every] == ["blues.00000", "jazz.00054"]
        assert every[0].spectrogram is data[0].spectrogram


class TestBadInput:
    @pytest.fixture
    def root(self, folder, tmp_path):
        for genre in ("low", "high"):
            (tmp_path / genre).mkdir()
            (tmp_path / genre / "0.png").write_bytes((folder / "pictures" / genre / "0.png").read_bytes())
        return tmp_path

    def bad(self, kind: str, path: Path, good: Path) -> None:
        with Image.open(good) as image:
            image.load()
            if kind == "size":
                image.resize((150, 100)).save(path)
            elif kind == "alpha":
                image.putalpha(128)
                image.save(path)
            elif kind == "16 bit":
                Image.fromarray(np.zeros((128, 150), np.uint16)).save(path)
            elif kind == "grey":
                image.convert("L").save(path)
            elif kind == "truncated":
                path.write_bytes(good.read_bytes()[:300])
            elif kind == "text":
                path.write_text("no picture")

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("size", r"150 × 100 pixels, but the first picture has 150 × 128 pixels"),
            ("alpha", "transparent"),
            ("16 bit", "16 or more bits"),
            ("grey", "not those of the colormap 'magma'"),
            ("truncated", "cannot be read as a picture"),
            ("text", "cannot be read as a picture"),
        ],
    )
    def test_one_error_each(self, root, kind, message):
        self.bad(kind, root / "low" / "1.png", root / "low" / "0.png")
        with pytest.raises(DatasetError, match=message):
            PictureFolder(root)
        with pytest.warns(UserWarning, match=r"1 of 3 tracks left out"):
            data = PictureFolder(root, on_error="return")
        assert [track.id for track in data] == ["high/0.png", "low/0.png"]
        (missing,) = data.missing
        assert missing.id == "low/1.png"

    def test_a_genre_without_a_usable_picture(self, root):
        (root / "low" / "0.png").write_text("no picture")
        with pytest.raises(DatasetError, match=r"low: no picture can be used"):
            PictureFolder(root, on_error="return")

    @pytest.mark.parametrize(
        "options",
        [
            {"colormap": "no-such-map"},
            {"crop": (0, 0, 151, 10)},
            {"crop": (10, 0, 10, 10)},
            {"n_mels": 0},
            {"duration_seconds": 0},
            {"floor_db": 80.0},
            {"on_error": "ignore"},
        ],
    )
    def test_parameters(self, root, options):
        with pytest.raises(ParameterError):
            PictureFolder(root, **options)

    def test_folders(self, root, tmp_path):
        (root / "empty").mkdir()
        with pytest.raises(DatasetError, match="holds no picture"):
            PictureFolder(root)
        with pytest.raises(DatasetError, match="not a folder"):
            PictureFolder(root / "missing")


class TestFeature:
    def test_equals_the_picture_of_librosa(self):
        """``LogMelImage`` with a colormap gives the pixels that specshow draws, one for each frame and band."""
        waveform = samples("high", 2)
        level = decibels(waveform)
        height, width = level.shape
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        librosa.display.specshow(level, ax=axes, vmin=-80, vmax=0, cmap="magma")
        axes.axis("off")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255  # the lowest band first
        feature = LogMelImage(sample_rate=RATE, size=(height, width), mean=(0, 0, 0), std=(1, 1, 1), colormap="magma")
        image = feature(torch.from_numpy(waveform.astype(np.float32))[None])[0].movedim(0, -1).numpy()
        assert image.shape == drawn.shape
        difference = np.abs(image - drawn)
        assert np.percentile(difference, 99) < 0.02

    def test_colours_are_interpolated(self):
        values = np.linspace(0, 1, 1_001)
        table = mpl.colormaps["magma"](np.arange(256), bytes=True)[:, :3] / 255
        expected = [np.interp(values, np.linspace(0, 1, 256), channel) for channel in table.T]
        found = Colormap("magma")(torch.from_numpy(values)[None])[:, 0]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)

    def test_contract(self):
        check_feature(musgenre.Component("logmel-image", {"colormap": "magma", "size": [64, 96]}), window_seconds=1.0)

    def test_size_and_channels(self):
        feature = LogMelImage(sample_rate=RATE, size=[96, 160], colormap="viridis")
        assert feature(torch.randn(2, 22_050)).shape == (2, *feature.out_shape(22_050)) == (2, 3, 96, 160)
        assert feature.bins_hz().shape == (96,)
        with pytest.raises(ParameterError, match="no colormap"):
            LogMelImage(sample_rate=RATE, colormap="no-such-map")
        with pytest.raises(ParameterError, match="3 channels"):
            LogMelImage(sample_rate=RATE, colormap="magma", mean=(0.5,), std=(0.5,))
        with pytest.raises(ParameterError, match="size"):
            LogMelImage(sample_rate=RATE, size=(1, 2, 3))


class BandMeans(Backbone):
    """The mean of each band and channel over time, and a dense layer."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.expects = InputSpec(channels=in_channels)
        self.out_features = 8
        self.dense = torch.nn.Sequential(torch.nn.Linear(32 * in_channels, 8), torch.nn.ReLU())

    def stages(self):
        return [self.dense]

    def forward(self, feature):
        return self.dense(feature.mean(dim=3).flatten(1))


class TestTraining:
    CONFIG = musgenre.FinetuneConfig(
        audio=musgenre.AudioSpec(window_seconds=3.0, hop_seconds=3.0),
        batch_size=4,
        windows_per_track=2,
        head_learning_rate=0.01,
    )

    def test_a_model_trained_on_pictures_predicts_the_recordings(self, folder, pictures):
        hop = round(pictures[0].spectrogram.spacing)
        feature = musgenre.Component("logmel-image", {"hop_length": hop, "size": 32, "colormap": "magma"})
        with BACKBONES.temporary("band-means", BandMeans):
            result = musgenre.finetune(
                pictures, backbone="band-means", feature=feature, config=self.CONFIG, progress=False
            )
        for track in pictures:
            assert result.classifier.predict(folder / f"{track.label}{track.id[-5]}.wav").label == track.label

    def test_the_default_feature_has_the_settings_of_the_pictures(self, pictures):
        backbone = musgenre.Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
        result = musgenre.finetune(
            pictures, backbone=backbone, config=self.CONFIG, head_epochs=1, epochs=0, progress=False
        )
        assert result.classifier.config.feature.options["hop_length"] == round(pictures[0].spectrogram.spacing)
        assert result.classifier.predict((samples("low", 9).astype(np.float32), RATE)).label in ("high", "low")
        with pytest.raises(DatasetError, match="do not fit"):
            result.classifier.predict(replace(pictures[0].spectrogram, hop_length=1_000))
