from __future__ import annotations

import pytest
import torch
from torch import nn

from musgenre.backbones.stages import find_stages


class Embedded(nn.Module):
    """Blocks in a container with a direct parameter, as in transformers."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(7))
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)) for _ in range(count)))
        self.norm = nn.LayerNorm(3)


def _parameters(stages: list[nn.Module]) -> list[int]:
    return [id(parameter) for stage in stages for parameter in stage.parameters()]


def _kinds(stage: nn.Module) -> list[str]:
    return [type(part).__name__ for part in stage.children()]


def test_chain_is_split_before_each_layer_with_weights():
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    stages = find_stages(chain)
    assert [_kinds(stage) for stage in stages] == [
        ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"],
        ["Conv2d", "Flatten"],
        ["Linear"],
    ]
    assert _parameters(stages) == [id(parameter) for parameter in chain.parameters()]


def test_modules_before_the_first_weights_belong_to_the_first_stage():
    assert [_kinds(stage) for stage in find_stages(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)))] == [
        ["BatchNorm2d", "Conv2d"]
    ]


@pytest.mark.parametrize("count", [4, 7])
def test_four_or_more_blocks_are_not_split(count):
    network = Embedded(count)
    stages = find_stages(network)
    assert [_kinds(stage) for stage in stages] == [["Sequential"]] * (count - 1) + [["Sequential", "LayerNorm"]]
    assert sorted(_parameters(stages)) == sorted(id(parameter) for parameter in network.parameters())
    assert id(network.position) in _parameters(stages[:1])


def test_fewer_than_four_blocks_are_split():
    assert [_kinds(stage) for stage in find_stages(Embedded(2))] == [
        ["Linear", "ReLU"],
        ["Linear"],
        ["Linear", "ReLU"],
        ["Linear", "LayerNorm"],
    ]


def test_parts_with_shared_parameters_form_one_stage():
    network = Embedded(6)
    network.blocks[3][0].weight = network.blocks[1][2].weight
    stages = find_stages(network)
    assert [len(_kinds(stage)) for stage in stages] == [1, 3, 1, 2]
    assert len(_parameters(stages)) == len(set(_parameters(stages)))


def test_network_is_unchanged():
    network = Embedded(5)
    before = list(network.state_dict())
    find_stages(network)
    assert list(network.state_dict()) == before


def test_freezing_a_stage_freezes_parameters_of_the_network():
    network = Embedded(4)
    find_stages(network)[0].requires_grad_(False)
    assert not network.position.requires_grad
    assert not network.blocks[0][0].weight.requires_grad
    assert network.blocks[1][0].weight.requires_grad
