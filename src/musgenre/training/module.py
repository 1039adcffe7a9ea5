"""The LightningModule: what one step of training and of validation does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musgenre.core.errors import MusgenreError, ParameterError
from musgenre.metrics import accuracy
from musgenre.models.network import GenreNetwork
from musgenre.training.config import Augmentation
from musgenre.training.distributed import gathered
from musgenre.training.stages import Stage


class GenreModule(pl.LightningModule):
    """Trains a network for one stage.

    A batch starts with ``inputs, labels``; a batch of validation goes on with the tracks' indices. The inputs are
    samples ``(batch, samples)``, or embeddings ``(batch, out_features)`` where ``embedded`` says so. Samples and
    features are varied here; embeddings come varied, and are only mixed.

    Args:
        network: The network; it is changed in place.
        stage: What learns, and how.
        augmentation: How windows are varied.
        class_weights: What each genre counts in the loss, ``(classes,)``; ``None`` counts all alike.
        embedded: Whether inputs are embeddings, so that only the head runs.

    Raises:
        ParameterError: The backbone has fewer stages than are to learn, or inputs are embeddings in a stage that
            changes what makes them.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: GenreNetwork,
        stage: Stage,
        *,
        augmentation: Augmentation,
        class_weights: Tensor | None = None,
        embedded: bool = False,
    ) -> None:
        super().__init__()
        if embedded and not stage.frozen:
            raise ParameterError(f"The stage {stage.name!r} changes the backbone: it cannot learn from embeddings.")
        self.network = network
        self.stage = stage
        self.mixup = augmentation.mixup
        self.on_waveform = augmentation.on_waveform()
        self.on_feature = augmentation.on_feature()
        self.embedded = embedded
        # What the loss is like is no part of the weights that are kept.
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._tracks: dict[int, tuple[int, Tensor]] = {}
        freeze(network, stage)

    def on_train_epoch_start(self) -> None:
        """Puts what learns into training mode, and what is frozen into evaluation mode."""
        self.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()  # frozen batch normalisation keeps its statistics, frozen dropout drops nothing

    def training_step(self, batch: Sequence[Tensor], _index: int) -> Tensor:
        """Returns the loss of a batch.

        Raises:
            MusgenreError: The loss is no longer a number.
        """
        inputs, labels = batch[:2]
        if not self.embedded:
            inputs = self.on_feature(self.network.feature(self.on_waveform(inputs)))
        share, partner = 1.0, torch.arange(len(labels), device=labels.device)
        if self.mixup:
            share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
            partner = torch.randperm(len(labels), device=labels.device)
            inputs = share * inputs + (1 - share) * inputs[partner]
        logits = self.network.head(inputs) if self.embedded else self.network.classify(inputs)
        # The loss is linear in the target, so that mixing losses is mixing labels.
        loss = share * self._loss(logits, labels) + (1 - share) * self._loss(logits, labels[partner])
        self._check(loss, inputs)
        # Over all devices, as everything that is logged here.
        size = len(labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], _index: int) -> None:
        """Collects the probabilities of ``(inputs, labels, track indices)`` by track.

        Raises:
            MusgenreError: The loss is no longer a number.
        """
        inputs, labels, tracks = batch
        logits = self.network.head(inputs) if self.embedded else self.network(inputs)
        loss = F.cross_entropy(logits, labels)
        self._check(loss, inputs)
        self.log("valid_loss", loss, prog_bar=True, batch_size=len(labels), sync_dist=True)
        for track, label, row in zip(tracks.tolist(), labels.tolist(), logits.softmax(dim=1), strict=True):
            so_far = self._tracks[track][1] if track in self._tracks else torch.zeros_like(row)
            self._tracks[track] = (label, so_far + row)

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy over tracks, each judged by the mean of its windows."""
        tracks: dict[int, tuple[int, Tensor]] = {}
        for part in gathered({track: (label, total.cpu()) for track, (label, total) in self._tracks.items()}):
            for track, (label, total) in part.items():
                tracks[track] = (label, total + tracks[track][1] if track in tracks else total)
        self._tracks.clear()
        truth = [label for label, _ in tracks.values()]
        predicted = [int(total.argmax()) for _, total in tracks.values()]
        self.log("valid_accuracy", accuracy(truth, predicted), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Returns the optimiser, with a group of parameters for each part that learns, and the schedule of rates."""
        kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        groups = parameter_groups(self.network, self.stage)
        # In one kernel: on a CPU ten times as fast as one operation after the other, which large heads feel.
        optimizer = kinds[self.stage.optimizer](groups, weight_decay=self.stage.weight_decay, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.stage.rate_factor(step, steps=max(steps, 1))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, weight=self.class_weights, label_smoothing=self.stage.label_smoothing)

    def _check(self, loss: Tensor, inputs: Tensor) -> None:
        if torch.isfinite(loss):
            return
        where = f"The loss became {loss.item()} in stage {self.stage.name!r}, epoch {self.current_epoch + 1}"
        if not torch.isfinite(inputs).all():
            raise MusgenreError(
                f"{where}: what the network was given is not finite. Look at the tracks and the weights."
            )
        raise MusgenreError(f"{where}: choose a learning rate below {self.stage.learning_rate:g}.")


def parameter_groups(network: GenreNetwork, stage: Stage) -> list[dict[str, Any]]:
    """Returns what learns in a stage, as the groups of an optimiser: ``name``, ``params`` and ``lr``.

    The groups go from input to output: ``"rest"``, ``"stage 1"`` and so on, ``"head"``. A parameter that two parts
    share is in the first of their groups.

    Raises:
        ParameterError: The backbone has fewer stages than are to learn.
    """
    parts = network.backbone.stages()
    frozen = len(parts) - stage.unfrozen
    if frozen < 0:
        raise ParameterError(f"The backbone has {len(parts)} stages: {stage.unfrozen} of them cannot learn.")
    learning: list[tuple[str, list[nn.Parameter], float]] = []
    if stage.rest_rate is not None:
        known = {id(parameter) for part in (*parts, network.head) for parameter in part.parameters()}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
        learning.append(("rest", rest, stage.rest_rate))
    for number, (part, rate) in enumerate(zip(parts[frozen:], stage.backbone_rates, strict=True), start=frozen + 1):
        learning.append((f"stage {number}", list(part.parameters()), rate))
    learning.append(("head", list(network.head.parameters()), stage.learning_rate))
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for name, parameters, rate in learning:
        own = [parameter for parameter in parameters if id(parameter) not in seen]
        seen.update(map(id, own))
        if own:
            groups.append({"name": name, "params": own, "lr": rate})
    return groups


def freeze(network: GenreNetwork, stage: Stage) -> None:
    """Says which parameters learn: sets ``requires_grad`` of all of the network's.

    Raises:
        ParameterError: The backbone has fewer stages than are to learn.
    """
    groups = parameter_groups(network, stage)
    network.requires_grad_(False)
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)


def class_weights(labels: Sequence[int], *, classes: int) -> Tensor:
    """Returns what each genre counts in the loss, so that all count alike together; the mean over tracks is 1.

    Args:
        labels: Index of each training track's label; every label occurs.
        classes: Number of genres.

    Raises:
        ParameterError: A genre has no track.

    Example:
        >>> class_weights([0, 0, 0, 1], classes=2)
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes)
    if counts.min() == 0:
        raise ParameterError(f"A genre without a track cannot be weighted: {counts.tolist()} tracks by genre.")
    return len(labels) / (classes * counts.float())
