from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musgenre.core.config import AudioSpec, Component, ModelConfig, Prediction, Windows, from_dict, to_dict
from musgenre.core.errors import ConfigError, MusgenreError, ParameterError

SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)


@st.composite
def audio_specs(draw: st.DrawFn) -> AudioSpec:
    window_seconds = draw(st.floats(0.01, 80))
    return AudioSpec(
        sample_rate=draw(st.integers(1000, 192_000)),
        window_seconds=window_seconds,
        hop_seconds=window_seconds * draw(st.floats(0.1, 1)),
    )


components = st.builds(Component, st.text(), st.dictionaries(st.text(max_size=8), json_values, max_size=3))
configs = st.builds(
    ModelConfig,
    name=st.text(),
    labels=st.lists(st.text(), min_size=2, max_size=5, unique=True).map(tuple),
    audio=audio_specs(),
    feature=components,
    backbone=components,
    hidden=st.lists(st.integers(1, 9999), max_size=4).map(tuple),
    dropout=st.floats(0, 1, exclude_max=True),
    split=st.none() | st.text(),
    scores=st.dictionaries(st.text(), finite, max_size=3),
    library_version=st.text(),
    format_version=st.integers(0, 9),
)
PLAIN = ModelConfig("m", ("jazz", "rock"), AudioSpec(), Component("logmel"), Component("vgg16"), hidden=(4, 2))


class TestRoundTrip:
    @SETTINGS
    @given(spec=audio_specs())
    def test_audio_spec(self, spec):
        assert from_dict(AudioSpec, json.loads(json.dumps(to_dict(spec)))) == spec

    @SETTINGS
    @given(config=configs)
    def test_model_config(self, config):
        back = from_dict(ModelConfig, json.loads(json.dumps(to_dict(config), allow_nan=False)))
        assert back == config
        assert isinstance(back.labels, tuple)
        assert isinstance(back.hidden, tuple)

    def test_integers_are_accepted_as_floats(self):
        spec = from_dict(AudioSpec, {"window_seconds": 3, "hop_seconds": 1})
        assert spec == AudioSpec(window_seconds=3.0, hop_seconds=1.0)
        assert isinstance(spec.window_seconds, float)

    def test_defaults_are_optional(self):
        pairs = to_dict(PLAIN)
        for name in ("hidden", "dropout", "split", "scores", "library_version", "format_version"):
            del pairs[name]
        assert from_dict(ModelConfig, pairs) == dataclasses.replace(PLAIN, hidden=())

    def test_from_dict_does_not_modify_its_input(self):
        pairs = to_dict(PLAIN)
        from_dict(ModelConfig, pairs)
        assert pairs == to_dict(PLAIN)


def _with(**changes: object) -> dict[str, object]:
    return {**to_dict(PLAIN), **changes}


class TestStrictReading:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"label": ["a", "b"]}, "label"),
            ({"audio": {"sample_rate": 22_050, "window": 3.0}}, "window"),
            ({"feature": {"name": "logmel", "option": {}}}, "option"),
        ],
    )
    def test_unknown_key(self, changes, named):
        with pytest.raises(ConfigError, match=f'can not match "{named}"'):
            from_dict(ModelConfig, _with(**changes))

    @pytest.mark.parametrize("name", ["name", "labels", "audio", "feature", "backbone"])
    def test_missing_key(self, name):
        pairs = to_dict(PLAIN)
        del pairs[name]
        with pytest.raises(ConfigError, match=f'missing value for field "{name}"'):
            from_dict(ModelConfig, pairs)

    def test_missing_nested_key(self):
        with pytest.raises(ConfigError, match=r'missing value for field "backbone\.name"'):
            from_dict(ModelConfig, _with(backbone={"options": {}}))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", None),
            ("name", 3),
            ("labels", "jazz"),
            ("labels", {"jazz": 1, "rock": 2}),
            ("labels", ["jazz", 1]),
            ("labels", None),
            ("audio", []),
            ("feature", "logmel"),
            ("feature.name", {"name": 3}),
            ("feature.options", {"name": "logmel", "options": []}),
            ("hidden", "64"),
            ("hidden", 64),
            ("hidden", [64.0]),
            ("hidden", [True]),
            ("dropout", "0.5"),
            ("dropout", True),
            ("dropout", None),
            ("scores", []),
            ("scores", {"accuracy": "high"}),
            ("scores", {"accuracy": False}),
            ("split", 3),
            ("format_version", "1"),
            ("format_version", 1.0),
            ("format_version", True),
            ("audio.sample_rate", {"sample_rate": 22_050.0}),
            ("audio.sample_rate", {"sample_rate": True}),
            ("audio.hop_seconds", {"hop_seconds": True}),
            ("audio.hop_seconds", {"hop_seconds": "3"}),
        ],
    )
    def test_wrong_type(self, field, value):
        with pytest.raises(ConfigError, match=f'wrong value type for field "{field}"'):
            from_dict(ModelConfig, _with(**{field.partition(".")[0]: value}))

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"labels": ["jazz"]}, "at least two distinct labels"),
            ({"labels": ["jazz", "rock", "jazz"]}, "distinct"),
            ({"hidden": [64, 0]}, "hidden"),
            ({"dropout": 1}, "dropout"),
            ({"dropout": -0.1}, "dropout"),
            ({"dropout": math.nan}, "dropout"),
            ({"audio": {"sample_rate": 0}}, "sample_rate"),
            ({"audio": {"sample_rate": -22_050}}, "sample_rate"),
            ({"audio": {"window_seconds": math.inf}}, "window_seconds"),
            ({"audio": {"hop_seconds": math.nan}}, "hop_seconds"),
            ({"audio": {"hop_seconds": 4.0}}, "hop_seconds .4.0. must not exceed window_seconds"),
            ({"audio": {"window_seconds": 1e-9, "hop_seconds": 1e-9}}, "at least one sample"),
            ({"audio": {"sample_rate": 10**400}}, "too large"),
            ({"audio": {"window_seconds": 10**400}}, "too large"),
        ],
    )
    def test_out_of_range(self, changes, named):
        with pytest.raises(ConfigError, match=named):
            from_dict(ModelConfig, _with(**changes))

    @pytest.mark.parametrize("data", [None, [], "AudioSpec", 3, True])
    def test_not_a_dict(self, data):
        with pytest.raises(ConfigError, match="AudioSpec: expected an object"):
            from_dict(AudioSpec, data)

    @SETTINGS
    @given(data=st.dictionaries(st.sampled_from([*to_dict(PLAIN), "other"]), json_values))
    def test_random_input_is_read_or_raises_config_error(self, data):
        try:
            assert isinstance(from_dict(ModelConfig, data), ModelConfig)
        except ConfigError as error:
            assert isinstance(error, ValueError)  # noqa: PT017 - both outcomes are valid


class TestAudioSpec:
    @SETTINGS
    @given(spec=audio_specs())
    def test_samples(self, spec):
        assert spec.window_samples == pytest.approx(spec.window_seconds * spec.sample_rate, abs=0.5)
        assert 1 <= spec.hop_samples <= spec.window_samples

    @pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
    @pytest.mark.parametrize("name", ["sample_rate", "window_seconds", "hop_seconds"])
    def test_out_of_range(self, name, value):
        with pytest.raises(ParameterError, match=name):
            AudioSpec(**{name: value})

    def test_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            AudioSpec().sample_rate = 8000


def test_component_from_name():
    assert Component.of("vgg16") == Component("vgg16", {})
    component = Component("vgg16", {"top": "pool"})
    assert Component.of(component) is component


def _prediction(probabilities: dict[str, float]) -> Prediction:
    windows = Windows(np.zeros(1), np.array([list(probabilities.values())]))
    return Prediction(probabilities, windows=windows, duration_seconds=3.0, path="song.wav")


class TestPrediction:
    @SETTINGS
    @given(
        values=st.lists(st.floats(0, 1), min_size=1, max_size=12),
        count=st.integers(1, 15),
    )
    def test_top_returns_the_largest_in_descending_order(self, values, count):
        prediction = _prediction({f"genre {index}": value for index, value in enumerate(values)})
        top = prediction.top(count)
        assert len(top) == min(count, len(values))
        assert [value for _, value in top] == sorted(values, reverse=True)[:count]
        assert all(prediction.probabilities[label] == value for label, value in top)
        assert (prediction.label, prediction.probability) == top[0]
        assert prediction.probability == max(values)

    def test_ties_are_resolved_by_label_order(self):
        prediction = _prediction({"rock": 0.4, "blues": 0.2, "jazz": 0.4})
        assert prediction.label == "rock"
        assert prediction.top(2) == [("rock", 0.4), ("jazz", 0.4)]

    @pytest.mark.parametrize("count", [0, -1])
    def test_count_below_one(self, count):
        with pytest.raises(ParameterError, match=f"at least 1, not {count}"):
            _prediction({"rock": 1.0}).top(count)

    def test_to_dict_is_json_compatible(self):
        prediction = _prediction({"rock": 0.25, "jazz": 0.75})
        assert json.loads(json.dumps(prediction.to_dict())) == {
            "path": "song.wav",
            "label": "jazz",
            "probability": 0.75,
            "probabilities": {"rock": 0.25, "jazz": 0.75},
            "duration_seconds": 3.0,
        }
        assert list(prediction.to_dict()["probabilities"]) == ["rock", "jazz"]


@pytest.mark.parametrize("error", [ParameterError, ConfigError])
def test_errors_derive_from_built_in_exceptions(error):
    assert issubclass(error, ValueError)
    assert issubclass(error, MusgenreError)
