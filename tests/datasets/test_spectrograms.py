"""Stored spectrograms: equal to librosa's, and used in place of audio for training, evaluation and prediction."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

import musgenre
from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets import GTZAN, AudioFolder, Track, TrackDataset, check_split, group_folds, store_spectrograms
from musgenre.datasets.gtzan import GENRES
from musgenre.datasets.spectrograms import MelSettings, StoredSpectrogram, read_spectrograms
from musgenre.datasets.windows import GridWindows, RandomWindows
from musgenre.features import LogMel, LogMelImage
from musgenre.training.config import Augmentation, FinetuneConfig
from musgenre.training.embedding_cache import embedded

RATE = 8_000
SETTINGS = {"sample_rate": RATE, "n_fft": 512, "hop_length": 256, "n_mels": 40}
SPEC = AudioSpec(RATE, window_seconds=1.0, hop_seconds=1.0)
FEATURE = Component("logmel", {"n_fft": 512, "hop_length": 256, "n_mels": 40})
BACKBONE = Component("mean-bands")
SPECTROGRAMS = os.environ.get("MUSGENRE_TEST_GTZAN_SPECTROGRAMS")


class MeanBands(Backbone):
    """The mean of each of 40 bands over time, and a dense layer."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.expects = InputSpec(channels=in_channels)
        self.out_features = 8
        self.dense = torch.nn.Sequential(torch.nn.Linear(40, 8), torch.nn.ReLU())

    def stages(self):
        return [self.dense]

    def forward(self, feature):
        return self.dense(feature.mean(dim=(1, 3)))


@pytest.fixture(scope="module", autouse=True)
def backbone():
    with BACKBONES.temporary("mean-bands", MeanBands):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tracks, of 2.5 to 4 s, of two genres: low and high tones in noise."""
    root = tmp_path_factory.mktemp("music")
    random = np.random.default_rng(0)
    rows = ["track,group"]
    for label, hertz in (("high", 2_000), ("low", 200)):
        (root / label).mkdir()
        for number in range(4):
            time = np.arange(round((2.5 + 0.5 * number) * RATE)) / RATE
            samples = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.05 * number) * time) * (1 + np.sin(20 * time)) / 2
            soundfile.write(root / label / f"{number}.wav", samples + random.normal(scale=0.01, size=time.size), RATE)
            rows.append(f"{label}/{number}.wav,{label} artist {number}")
    (root / "groups.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def audio(folder: Path) -> AudioFolder:
    return AudioFolder(folder, groups=folder / "groups.csv")


@pytest.fixture(scope="module")
def path(audio: AudioFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spectrograms") / "music.npz"
    store_spectrograms(audio, path, **SETTINGS)
    return path


@pytest.fixture(scope="module")
def stored(path: Path) -> AudioFolder:
    return AudioFolder(path)


@pytest.fixture
def classifier() -> musgenre.GenreClassifier:
    torch.manual_seed(0)
    config = ModelConfig("tiny", ("high", "low"), SPEC, FEATURE, BACKBONE)
    return musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config, device="cpu")


def librosa_decibels(path: Path) -> np.ndarray:
    samples, _ = soundfile.read(path, dtype="float32")
    mel = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=512, hop_length=256, n_mels=40)
    return librosa.power_to_db(mel, top_db=80)


class TestFile:
    def test_levels_are_those_of_librosa(self, audio, stored):
        for track, other in zip(audio, stored, strict=True):
            decibels = other.spectrogram.decibels()
            expected = librosa_decibels(track.path)
            assert decibels.shape == expected.shape
            assert np.abs(decibels - expected).max() <= 80 / 255 / 2 + 1e-3

    def test_metadata(self, audio, stored):
        assert stored.labels == audio.labels
        assert stored.name == "music"
        for track, other in zip(audio, stored, strict=True):
            assert (other.id, other.label, other.group, other.path) == (track.id, track.label, track.group, None)
            assert other.duration_seconds == track.duration_seconds
            assert other.source is other.spectrogram

    def test_groups_can_be_replaced(self, path, tmp_path):
        csv = tmp_path / "groups.csv"
        csv.write_text("track,group\nlow/0.wav,someone")
        groups = {track.id: track.group for track in AudioFolder(path, groups=csv)}
        assert groups.pop("low/0.wav") == "someone"
        assert set(groups.values()) == {None}

    def test_columns_are_an_even_selection_of_frames(self, tmp_path):
        """Three in ten frames, as when a spectrogram is drawn narrower than it is."""
        centres = _stored(np.zeros((2, 387), np.uint8), frames=1293).centres()
        frames = centres // 512
        assert frames[0] == 1
        assert frames[-1] == 1289
        assert set(np.diff(frames)) == {3, 4}
        assert (centres % 512 == 0).all()
        assert _stored(np.zeros((2, 387), np.uint8), frames=1293).spacing == pytest.approx(1708.5, abs=1)

    @pytest.mark.parametrize("frames", [1, 2, 5, 130, 5_000])
    def test_all_frames(self, frames):
        assert (_stored(np.zeros((2, frames), np.uint8), frames=frames).centres() == 512 * np.arange(frames)).all()

    def test_a_failed_write_leaves_the_old_file(self, folder, path, tmp_path):
        target = tmp_path / "music.npz"
        target.write_bytes(path.read_bytes())
        broken = Track("broken", tmp_path / "no.wav", "low", None, 1.0)
        tracks = TrackDataset([*AudioFolder(folder), broken], labels=["high", "low"], name="music")
        with pytest.raises(DatasetError, match="'broken' could not be decoded"):
            store_spectrograms(tracks, target, **SETTINGS)
        assert target.read_bytes() == path.read_bytes()
        with pytest.raises(DatasetError, match="could not be written"):
            store_spectrograms(AudioFolder(folder), tmp_path / "missing" / "music.npz", **SETTINGS)
        assert [entry.name for entry in tmp_path.iterdir()] == ["music.npz"]

    def test_a_full_disk_leaves_the_old_file(self, audio, path, tmp_path, monkeypatch):
        target = tmp_path / "music.npz"
        target.write_bytes(path.read_bytes())

        def fail(file, **arrays):
            file.write(b"PK")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(np, "savez_compressed", fail)
        with pytest.raises(DatasetError, match="No space left"):
            store_spectrograms(audio, target, **SETTINGS)
        assert target.read_bytes() == path.read_bytes()
        assert [entry.name for entry in tmp_path.iterdir()] == ["music.npz"]

    def test_a_spectrogram_has_no_audio(self, stored, tmp_path):
        with pytest.raises(DatasetError, match=r"'high/0\.wav' has a stored spectrogram and no audio"):
            store_spectrograms(stored, tmp_path / "again.npz")
        with pytest.raises(DatasetError, match=r"suffix \.npz"):
            store_spectrograms(stored, tmp_path / "again.npy")

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"levels": None}, "levels is missing"),
            ({"levels": np.zeros((8, 40, 10))}, "uint8"),
            ({"floor_db": np.zeros(8)}, "floor_db"),
            ({"floor_db": np.full(7, -80.0)}, "floor_db must have one value for each of the 8"),
            ({"peak_db": np.full(8, np.nan)}, "peak_db"),
            ({"peak_db": np.full(8, 1e6)}, "peak_db"),
            ({"columns": np.full(8, 1_000_000)}, "columns"),
            ({"columns": np.full(8, 0)}, "columns"),
            ({"frames": np.full(8, 1)}, "frames"),
            ({"frames": np.full(8, 500.0)}, "frames"),
            ({"track_id": np.full(8, "same")}, "distinct"),
            ({"track_id": np.arange(8)}, "strings"),
            ({"duration_seconds": np.full(8, np.inf)}, "duration_seconds"),
            ({"duration_seconds": np.ones(3)}, "duration_seconds must have one value"),
            ({"sample_rate": 0}, "sample_rate"),
            ({"hop_length": -3}, "hop_length"),
            ({"f_max_hz": np.zeros(3)}, "f_max_hz"),
            ({"label": np.array(["high", *[""] * 7])}, "no genres"),
            ({"label": np.full(8, "high")}, "two genres"),
            ({"track_id": np.array([{}] * 8, dtype=object)}, "cannot be read"),
        ],
    )
    def test_damaged_files(self, path, tmp_path, changes, problem):
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files} | changes
        damaged = tmp_path / "damaged.npz"
        np.savez(damaged, **{name: array for name, array in arrays.items() if array is not None})
        with pytest.raises(DatasetError, match=problem):
            AudioFolder(damaged)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY", b"no archive"])
    def test_other_files(self, tmp_path, content):
        other = tmp_path / "other.npz"
        other.write_bytes(content)
        with pytest.raises(DatasetError, match=r"other\.npz"):
            AudioFolder(other)

    def test_a_single_array(self, tmp_path):
        np.save(tmp_path / "levels.npy", np.zeros(3))
        with pytest.raises(DatasetError, match=r"levels\.npy"):
            AudioFolder(tmp_path / "levels.npy")

    def test_truncated_or_changed_file(self, path, tmp_path):
        content = path.read_bytes()
        damaged = tmp_path / "damaged.npz"
        for position in range(100, len(content), len(content) // 50):
            for data in (content[:position], content[:position] + b"?!?!" + content[position + 4 :]):
                damaged.write_bytes(data)
                try:
                    tracks = read_spectrograms(damaged)
                except DatasetError as error:
                    assert "damaged.npz" in str(error)  # noqa: PT017 - a change in a file name of the archive may be harmless
                else:
                    assert len(tracks) == 8


class TestWindows:
    def test_equal_those_of_the_audio(self, audio, stored):
        """Windows that start on a frame: all frames but those at the ends, at which audio windows are padded."""
        feature, spec = LogMel(**SETTINGS), AudioSpec(RATE, window_seconds=1.024, hop_seconds=1.024)
        windows, others = GridWindows(audio, audio=spec), GridWindows(stored, audio=spec, mel=feature.mel)
        aligned = [index for index in range(len(windows)) if windows.locate(index)[1] % 0.032 == 0]
        assert len(windows) == len(others)
        assert len(aligned) >= 16
        for index in aligned:
            (samples, *expected_track), (power, *track) = windows[index], others[index]
            assert track == expected_track
            expected, found = feature(samples[None])[..., 2:-2], feature(power[None])[..., 2:-2]
            assert found.shape == expected.shape
            # Below -0.9 the floors differ: 80 dB below the maximum of the track, or of the window.
            assert (found - expected)[expected > -0.9].abs().max() < 0.01  # 0.4 dB

    def test_frames_fit_the_network(self, stored):
        feature = LogMel(**SETTINGS)
        for seconds in (0.3, 1.0, 1.7, 6.0):
            spec = AudioSpec(RATE, window_seconds=seconds, hop_seconds=seconds)
            window = RandomWindows(stored, audio=spec, mel=feature.mel)[0][0]
            assert window.dtype == torch.float32
            assert feature(window[None]).shape[1:] == feature.out_shape(spec.window_samples)

    def test_short_spectrogram_is_repeated(self):
        levels = np.array([[0, 100, 255]], np.uint8)
        power = _stored(levels, frames=3).window(0, frames=7)
        assert power[0].tolist() == power[0, [0, 1, 2, 0, 1, 2, 0]].tolist()
        assert 10 * np.log10(power[0, 2]) == pytest.approx(20, abs=1e-4)

    def test_random_windows_depend_on_the_seed(self, stored):
        mel = LogMel(**SETTINGS).mel
        one, same, other = (RandomWindows(stored, audio=SPEC, mel=mel, seed=seed) for seed in (1, 1, 2))
        assert torch.equal(one[3][0], same[3][0])
        assert not torch.equal(one[3][0], other[3][0])

    def test_audio_and_spectrograms_are_not_mixed(self, audio, stored):
        tracks = [audio[0], replace(stored[5], id="other")]
        data = TrackDataset(tracks, labels=audio.labels, name="both")
        with pytest.raises(DatasetError, match="tracks with audio and tracks with stored spectrograms"):
            GridWindows(data, audio=SPEC, mel=LogMel(**SETTINGS).mel)

    def test_a_track_has_one_source(self, stored):
        with pytest.raises(DatasetError, match="either an audio file or a spectrogram"):
            Track("both", Path("song.wav"), "low", None, 1.0, spectrogram=stored[0].spectrogram)
        with pytest.raises(DatasetError, match="either"):
            Track("neither", None, "low", None, 1.0)


class TestIncompatible:
    @pytest.mark.parametrize(
        "options",
        [{"hop_length": 300}, {"n_mels": 41}, {"n_fft": 1024}, {"f_min_hz": 20.0}, {"f_max_hz": 3_000.0}],
    )
    def test_the_error_describes_both(self, stored, options):
        feature = LogMel(**SETTINGS | options)
        with pytest.raises(DatasetError) as error:
            stored[0].spectrogram.check(feature.mel)
        assert "40 bands from 0 to 4,000 Hz, n_fft 512, a frame every 256 samples at 8,000 Hz" in str(error.value)
        assert f"{feature.mel.n_mels} bands from" in str(error.value)
        assert "hop_length=256" in str(error.value)

    def test_more_columns_than_frames(self):
        """All columns of a picture of less than a frame are the same frame."""
        stored = _stored(np.zeros((128, 10), np.uint8), frames=1)
        assert stored.spacing == 0
        with pytest.raises(DatasetError, match="do not fit"):
            stored.check(LogMel(sample_rate=22_050).mel)

    def test_small_differences_of_the_hop(self, stored):
        for hop, is_valid in ((253, True), (262, True), (247, False), (265, False)):
            mel = LogMel(**SETTINGS | {"hop_length": hop}).mel
            if is_valid:
                assert stored[0].spectrogram.check(mel) is mel
            else:
                with pytest.raises(DatasetError):
                    stored[0].spectrogram.check(mel)

    def test_other_features(self, stored, tmp_path):
        tempogram = Component("tempogram", {"n_fft": 512, "hop_length": 100, "win_length": 40})
        with pytest.raises(DatasetError, match="not computed from a mel spectrogram"):
            musgenre.finetune(stored, backbone=BACKBONE, feature=tempogram, audio=SPEC, directory=tmp_path / "run")
        assert not list((tmp_path / "run").glob("*"))

    def test_prediction(self, stored, classifier):
        other = replace(stored[0].spectrogram, hop_length=512)
        with pytest.raises(DatasetError, match="do not fit"):
            classifier.predict(other)
        assert isinstance(classifier.predict([stored[0].spectrogram, other], on_error="return")[1], DatasetError)

    @pytest.mark.parametrize("name", ["gain_db", "speed"])
    def test_augmentation_of_audio(self, stored, name, classifier, tmp_path):
        augmentation = Augmentation(**{name: 0.1})
        with pytest.raises(ParameterError, match="augment audio"):
            musgenre.finetune(stored, config=FinetuneConfig(augmentation=augmentation))
        windows = GridWindows(stored, audio=SPEC, mel=classifier.network.feature.mel)
        with pytest.raises(ParameterError, match="augment audio"):
            embedded(windows, classifier.network, directory=tmp_path, augmentation=augmentation)


class TestPrediction:
    def test_equals_that_of_the_audio(self, audio, stored, classifier):
        for track, other in zip(audio, stored, strict=True):
            expected, found = classifier.predict(track.path), classifier.predict(other.spectrogram)
            assert found.path is None
            np.testing.assert_array_equal(found.windows.start_seconds, expected.windows.start_seconds)
            assert found.duration_seconds == expected.duration_seconds
            assert found.probabilities["low"] == pytest.approx(expected.probabilities["low"], abs=0.03)

    def test_all_ways_are_equal(self, stored, classifier):
        spectrograms = [track.spectrogram for track in stored]
        expected = [classifier.predict(one).probabilities["low"] for one in spectrograms]
        assert [one.probabilities["low"] for one in classifier.predict(spectrograms)] == pytest.approx(expected)
        assert classifier.predict_proba(spectrograms)[:, 1] == pytest.approx(expected)
        assert classifier.embed(spectrograms).shape == (8, classifier.embedding_size)
        assert [track.source for track in stored] == spectrograms

    def test_images(self, stored):
        """The other feature that is computed from a mel spectrogram."""
        settings = {name: value for name, value in SETTINGS.items() if name != "sample_rate"}
        feature = LogMelImage(sample_rate=RATE, size=32, **settings)
        power = torch.from_numpy(stored[0].spectrogram.window(0, frames=32))[None]
        before = power.clone()
        assert feature(power).shape == (1, 3, 32, 32)
        assert torch.equal(power, before)


class TestTraining:
    CONFIG = FinetuneConfig(audio=SPEC, batch_size=4, windows_per_track=4, head_learning_rate=0.03)

    def test_a_model_trained_on_spectrograms_predicts_audio(self, audio, stored):
        result = musgenre.finetune(stored, backbone=BACKBONE, feature=FEATURE, config=self.CONFIG, progress=False)
        assert [result.classifier.predict(track.path).label for track in audio] == [track.label for track in audio]
        report = musgenre.evaluate(result.classifier, stored)
        assert report.accuracy == 1.0

    def test_embeddings_are_cached_by_the_content(self, path, stored, classifier, tmp_path):
        def cache(data):
            windows = GridWindows(data, audio=SPEC, mel=classifier.network.feature.mel)
            return embedded(windows, classifier.network, directory=tmp_path)

        first = cache(stored)
        assert cache(AudioFolder(path)).path == first.path
        changed = replace(stored[0].spectrogram, peak_db=stored[0].spectrogram.peak_db - 1)
        tracks = [replace(stored[0], spectrogram=changed), *stored.tracks[1:]]
        assert cache(TrackDataset(tracks, labels=stored.labels, name="music")).path != first.path

    @pytest.mark.slow
    def test_cross_validation(self, stored, tmp_path):
        recipe = musgenre.Recipe(BACKBONE, FEATURE, config=self.CONFIG)
        report = musgenre.cross_validate(stored, recipe=recipe, folds=2, directory=tmp_path, progress=False)
        assert [one.tracks for one in report.pooled] == [8]

    def test_splits(self, stored):
        for train, test in group_folds(stored, folds=2):
            assert check_split(train, test) is None
        left = stored.select(["low/0.wav", "high/0.wav"])
        copies = [replace(track, id=f"copy of {track.id}", group=None) for track in left]
        right = TrackDataset(copies, labels=stored.labels, name="copies")
        with pytest.raises(DatasetError, match=r"recording high/0\.wav"):
            check_split(left, right)


class TestGTZAN:
    @pytest.fixture
    def root(self, tmp_path):
        """A file with four of GTZAN's tracks, without labels and with the default settings."""
        path = tmp_path / "spectrograms.npz"
        ids = ["blues.00000", "disco.00049", "jazz.00054", "rock.00012"]
        levels = np.random.default_rng(0).integers(0, 256, (4, 128, 387), dtype=np.uint8)
        np.savez(path, track_id=ids, levels=levels, floor_db=np.full(4, -80.0), peak_db=np.zeros(4), frames=[1293] * 4)
        return path

    @pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
    def test_tracks(self, root):
        data = GTZAN(root, scheme="all")
        table = {row.id: row for row in musgenre.datasets.gtzan._read_table()}
        assert [track.id for track in data] == ["blues.00000", "disco.00049", "jazz.00054", "rock.00012"]
        for track in data:
            assert track.label == track.id.partition(".")[0]
            assert (track.group, track.fault) == (table[track.id].group, table[track.id].fault)
            assert track.spectrogram.settings == MelSettings(22_050, 2048, 128, 0.0, 11_025.0)
            assert track.duration_seconds == pytest.approx(30, abs=0.05)
        assert len(data.missing) == 996
        assert {missing.reason for missing in data.missing} == {"not in the file or dataset"}
        assert {one.reason for one in data.verify().unchecked} == {"no checksum is known for spectrograms"}

    def test_no_labels(self, root):
        with pytest.raises(DatasetError, match="no genres"):
            AudioFolder(root)

    def test_no_track_of_the_split(self, path):
        with pytest.raises(DatasetError, match="none of the 290 tracks"):
            GTZAN(path, split="test")


@pytest.mark.skipif(
    not (SPECTROGRAMS and os.environ.get("MUSGENRE_TEST_GTZAN")),
    reason="needs MUSGENRE_TEST_GTZAN and MUSGENRE_TEST_GTZAN_SPECTROGRAMS",
)
@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
class TestRealMusic:
    @pytest.fixture(scope="class")
    @staticmethod
    def pairs():
        """The tracks of 30 s, as audio and as spectrogram."""
        audio = GTZAN(os.environ["MUSGENRE_TEST_GTZAN"], scheme="all")
        stored = {track.id: track for track in GTZAN(SPECTROGRAMS, scheme="all")}
        return [(track, stored[track.id]) for track in audio if track.duration_seconds > 29 and track.id in stored]

    def test_decibels(self, pairs):
        assert len(pairs) >= 10
        for track, other in pairs:
            samples, _ = librosa.load(track.path, sr=22_050)
            mel = librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=22_050), top_db=80)
            frames = other.spectrogram.centres() // 512
            frames = frames[frames < mel.shape[1]]
            difference = np.abs(mel[:, frames] - other.spectrogram.decibels()[:, : len(frames)])
            assert difference.mean() < 0.3

    def test_windows(self, pairs):
        """A window of a stored spectrogram resembles that of its own audio most, with the hop of a network."""
        feature = LogMel(sample_rate=22_050, hop_length=1708)
        spec = AudioSpec(window_seconds=10.0, hop_seconds=10.0)
        sides = [TrackDataset(side, labels=GENRES, name="side") for side in zip(*pairs, strict=True)]
        audio, stored = (
            torch.stack([feature(window[None]).flatten() for window, *_ in GridWindows(side, audio=spec, mel=mel)])
            for side, mel in zip(sides, (None, feature.mel), strict=True)
        )
        assert len(audio) == len(stored)
        similarity = torch.corrcoef(torch.cat([audio, stored]))[: len(audio), len(audio) :]
        own = torch.arange(len(audio))
        # The last window of a track is almost equal to the one before it.
        assert ((similarity.argmax(dim=1) - own).abs() <= 1).float().mean() > 0.9
        assert similarity.diagonal().median() > 0.85


def _stored(levels: np.ndarray, *, frames: int) -> StoredSpectrogram:
    settings = MelSettings(22_050, n_fft=2048, n_mels=len(levels), f_min_hz=0.0, f_max_hz=11_025.0)
    return StoredSpectrogram(
        levels, -80.0, 20.0, frames=frames, hop_length=512, duration_seconds=frames * 512 / 22_050, settings=settings
    )
