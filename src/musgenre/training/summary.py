"""Summary of a run before it starts, as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from musgenre.datasets.base import TrackDataset
from musgenre.models.network import GenreNetwork
from musgenre.training.config import FinetuneConfig, Stage
from musgenre.training.module import parameter_groups

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text


def summary(
    train: TrackDataset,
    valid: TrackDataset | None,
    *,
    network: GenreNetwork,
    plan: list[Stage],
    config: FinetuneConfig,
) -> Group:
    """Return the tables that :func:`~musgenre.finetune` shows before training; ``rich.print`` prints them.

    The first table has the number of tracks of each genre in the training and validation set, and the groups (artists)
    and minutes of each set. The second has the parameters that each stage trains, and its number of epochs.

    Args:
        train: Training tracks.
        valid: Validation tracks, or ``None``.
        network: The network; it is not changed.
        plan: The stages.
        config: The training configuration of the plan.
    """
    from rich.console import Group

    return Group(_data(train, valid), _stages(network, plan), _settings(config))


def _data(train: TrackDataset, valid: TrackDataset | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    sides = {"train": train} if valid is None else {"train": train, "valid": valid}
    table = Table("genre", title=Text(train.name), title_justify="left", show_footer=True)
    table.columns[0].footer = "all\ngroups\nminutes"
    for name, side in sides.items():
        minutes = sum(track.duration_seconds for track in side) / 60
        groups = {track.group for track in side if track.group is not None}
        footer = f"{len(side)}\n{len(groups) or 'unknown'}\n{minutes:.1f}"
        table.add_column(Text(f"{name} ({side.split})" if side.split else name), footer=footer, justify="right")
    counts = [side.counts() for side in sides.values()]
    for label in train.labels:
        table.add_row(Text(label), *(str(count[label]) for count in counts))
    return table


def _stages(network: GenreNetwork, plan: list[Stage]) -> Table:
    from rich.table import Table

    table = Table("stage", title="stages", title_justify="left")
    for name in ("epochs", "part", "learning rate", "trained", "frozen"):
        table.add_column(name, justify="left" if name == "part" else "right")
    total = sum(parameter.numel() for parameter in network.parameters())
    for number, stage in enumerate(plan):
        groups = list(reversed(parameter_groups(network, stage)))
        sizes = [sum(parameter.numel() for parameter in group["params"]) for group in groups]
        table.add_row(
            stage.name,
            str(stage.epochs),
            "\n".join(group["name"] for group in groups),
            "\n".join(f"{group['lr']:.1e}" for group in groups),
            f"{sum(sizes):,}",
            f"{total - sum(sizes):,}",
            end_section=number < len(plan) - 1,
        )
    return table


def _settings(config: FinetuneConfig) -> Text:
    from rich.text import Text

    default = vars(FinetuneConfig())
    changed = [f"{name}={value!r}" for name, value in vars(config).items() if value != default[name]]
    return Text("Settings other than the defaults: " + (", ".join(changed) or "none"))
