"""The plan: its stages, what each trains, and the learning rates; and the options of a run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.backbones.base import Backbone, InputSpec
from musgenre.core.config import AudioSpec, from_dict, to_dict
from musgenre.core.errors import ParameterError
from musgenre.training.config import (
    Augmentation,
    FinetuneConfig,
    FinetuneOptions,
    RunOptions,
    Stage,
    apply_options,
    training_record,
)


class Layers(Backbone):
    """Backbone with a given number of stages; its output is not used."""

    def __init__(self, count: int, *, pretrained: bool = True) -> None:
        super().__init__()
        self.expects = InputSpec(channels=1)
        self.out_features = 2
        self.pretrained = pretrained
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(count))

    def stages(self):
        return list(self.layers)

    def forward(self, feature):
        return feature


def planned(config, backbone):
    return [(stage.name, stage.epochs, stage.unfrozen) for stage in config.plan(backbone)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("head", 10, 0), ("backbone", 10, 6)]),
        ({"freeze": 0}, [("head", 10, 0), ("backbone", 10, 6)]),
        ({"freeze": 4}, [("head", 10, 0), ("backbone", 10, 2)]),
        ({"freeze": "all"}, [("head", 10, 0)]),
        ({"freeze": 6}, [("head", 10, 0)]),
        ({"epochs": 0}, [("head", 10, 0)]),
        ({"head_epochs": 0, "freeze": 5}, [("backbone", 10, 1)]),
        ({"head_epochs": 0, "freeze": 2, "gradual": 3}, [("backbone-1", 5, 3), ("backbone-2", 5, 4)]),
        ({"head_epochs": 0, "gradual": 2}, [("backbone-1", 3, 2), ("backbone-2", 3, 4), ("backbone-3", 4, 6)]),
        ({"head_epochs": 0, "gradual": 9}, [("backbone", 10, 6)]),
    ],
)
def test_the_stages_of_a_pretrained_backbone(options, expected):
    assert planned(FinetuneConfig(**options), Layers(6)) == expected


def test_a_backbone_without_pretrained_weights_is_trained_in_one_stage_unless_frozen():
    blank = Layers(2, pretrained=False)
    config = FinetuneConfig(head_epochs=2, epochs=3, gradual=1, head_learning_rate=0.5)
    (stage,) = config.plan(blank)
    assert (stage.name, stage.epochs) == ("everything", 5)
    assert {stage.learning_rate, stage.rest_rate, *stage.backbone_rates} == {0.5}
    assert not stage.frozen
    (stage,) = dataclasses.replace(config, freeze="all").plan(blank)
    assert (stage.name, stage.epochs, stage.frozen) == ("head", 2, True)


def test_rates_fall_from_output_to_input():
    head, last = FinetuneConfig(learning_rate=1.0, rate_decay=0.5).plan(Layers(3))
    assert (head.learning_rate, head.backbone_rates, head.rest_rate) == (1e-3, (), None)
    assert last.learning_rate == 1.0
    assert last.backbone_rates == (0.125, 0.25, 0.5)
    assert last.rest_rate == 0.125


def test_the_rest_is_trained_with_the_complete_backbone_only():
    *before, end = FinetuneConfig(gradual=1).plan(Layers(3))
    assert [stage.rest_rate for stage in before] == [None] * 3
    assert end.rest_rate == end.backbone_rates[0]
    assert FinetuneConfig(freeze=1).plan(Layers(3))[-1].rest_rate is None


def test_a_backbone_without_stages_is_trained_completely_or_not_at_all():
    head, rest = FinetuneConfig(rate_decay=0.5, learning_rate=1.0).plan(Layers(0))
    assert head.frozen
    assert (rest.frozen, rest.backbone_rates, rest.rest_rate) == (False, (), 0.5)
    assert rest.learning_rate == 1.0
    assert planned(FinetuneConfig(freeze="all"), Layers(0)) == [("head", 10, 0)]


@settings(deadline=None)  # a processor that is busy with other things is slow
@given(
    total=st.integers(1, 8),
    data=st.data(),
    gradual=st.integers(0, 9),
    epochs=st.integers(8, 40),
    decay=st.floats(0.1, 1.0),
)
def test_gradual_unfreezing_reaches_all_stages_within_the_epochs(total, data, gradual, epochs, decay):
    frozen = data.draw(st.integers(0, total - 1))
    config = FinetuneConfig(head_epochs=0, freeze=frozen, gradual=gradual, epochs=epochs, rate_decay=decay)
    plan = config.plan(Layers(total))
    unfrozen = [stage.unfrozen for stage in plan]
    assert sum(stage.epochs for stage in plan) == epochs
    assert unfrozen == sorted(set(unfrozen))
    assert unfrozen[-1] == total - frozen
    assert all(step <= (gradual or total) for step in [unfrozen[0], *(b - a for a, b in itertools.pairwise(unfrozen))])
    for stage in plan:
        rates = [*stage.backbone_rates, stage.learning_rate]
        assert all(math.isclose(a, b * decay) for a, b in itertools.pairwise(rates))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"freeze": 7}, "6 stages"),
        ({"freeze": "all", "head_epochs": 0}, "head_epochs"),
        ({"gradual": 1, "epochs": 5}, "5 epochs.*6 stages"),
    ],
)
def test_an_impossible_plan(options, match):
    with pytest.raises(ParameterError, match=match):
        FinetuneConfig(**options).plan(Layers(6))


@pytest.mark.parametrize(
    "wrong",
    [
        {"freeze": "some"},
        {"freeze": -1},
        {"freeze": True},
        {"freeze": 1.5},
        {"gradual": -1},
        {"rate_decay": 0.0},
        {"rate_decay": 1.5},
        {"warmup": 1.0},
        {"label_smoothing": -0.1},
        {"dropout": 1.0},
        {"views": 0},
        {"learning_rate": math.nan},
        {"head_learning_rate": -1.0},
        {"precision": "8"},
        {"balanced": True, "class_weights": True},
        {"head_epochs": 0, "epochs": 0},
    ],
)
def test_a_setting_out_of_range(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        FinetuneConfig(**wrong)


@pytest.mark.parametrize("steps", [1, 7, 40])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.99])
def test_the_schedule_equals_that_of_torch(steps, warmup):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    rising = min(round(warmup * steps), steps - 1)
    parts = [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (rising + 1), 1.0, total_iters=max(rising, 1)),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - rising),
    ]
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [rising]) if rising else parts[1]
    if not rising:
        optimizer.param_groups[0]["lr"] = 1.0
    stage = Stage("head", 1, 1e-3, warmup=warmup)
    for step in range(steps):
        assert stage.rate_factor(step, steps=steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        schedule.step()
    assert stage.rate_factor(steps, steps=steps) == pytest.approx(0.0, abs=1e-9)


def test_a_constant_schedule_stays_constant_after_the_warm_up():
    stage = Stage("head", 1, 1e-3, schedule="constant", warmup=0.2)
    assert [stage.rate_factor(step, steps=10) for step in (0, 1, 2, 9)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_the_record_is_json_and_can_be_read():
    config = FinetuneConfig(
        audio=AudioSpec(sample_rate=8_000),
        hidden=(8, 4),
        freeze=1,
        gradual=1,
        augmentation=Augmentation(mixup=0.2, speed=0.1),
        cache=Path("mine"),
        name="mine",
    )
    plan = config.plan(Layers(4))
    record = json.loads(json.dumps(training_record(config, plan)))
    assert "mine" not in str(record)
    assert from_dict(FinetuneConfig, record["config"]) == dataclasses.replace(config, cache=None, name=None)
    assert [from_dict(Stage, stage) for stage in record["stages"]] == plan
    assert [to_dict(stage) for stage in plan] == record["stages"]


def test_options_replace_fields_of_the_configuration_and_are_run_options(tmp_path):
    config, options = apply_options(
        FinetuneConfig(head_epochs=7), {"seed": 3, "workers": 2, "directory": tmp_path, "freeze": "all"}
    )
    assert config == FinetuneConfig(head_epochs=7, seed=3, freeze="all")
    assert options == RunOptions(workers=2, directory=tmp_path)
    assert options.path == tmp_path


def test_an_unknown_option_suggests_a_similar_one():
    with pytest.raises(ParameterError, match=r"Unexpected option 'resum'. Did you mean 'resume'\?"):
        apply_options(FinetuneConfig(), {"resum": True})


def test_the_typed_keywords_are_the_fields_of_both_dataclasses():
    keywords = {name: hint.__forward_arg__ for name, hint in FinetuneOptions.__annotations__.items()}
    fields = {field.name: field.type for kind in (FinetuneConfig, RunOptions) for field in dataclasses.fields(kind)}
    assert keywords == fields


@pytest.mark.parametrize(
    "wrong",
    [
        {"resume": True},
        {"num_nodes": 2},
        {"num_nodes": 0},
        {"workers": -1},
        {"loggers": ["tensorboard"]},
        {"loggers": ["wandb"], "directory": "here"},
    ],
)
def test_run_options_out_of_range_or_in_contradiction(wrong):
    with pytest.raises(ParameterError):
        RunOptions(**wrong)
