"""Lightning module with the training and validation steps, and the parameters that a stage trains."""

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
from musgenre.training.config import Augmentation, Stage
from musgenre.training.distributed import gather


class GenreModule(pl.LightningModule):
    """Trains a network for one stage.

    Batches are ``(inputs, labels, track indices)``; the indices are used in validation only. Inputs are samples, to
    which all augmentation is applied here, or embeddings of augmented samples, to which only mixup is applied.

    Args:
        network: The network; it is changed in place.
        stage: The stage.
        augmentation: Augmentation of training windows.
        class_weights: Weight of each genre in the loss, ``(classes,)``; by default all are 1.
        embedded: Whether the inputs are embeddings, so that only the head is computed.

    Shape:
        - inputs: ``(batch, samples)``, or ``(batch, out_features)`` if ``embedded``
        - labels, track indices: ``(batch,)``

    Raises:
        ParameterError: The backbone has fewer stages than the stage trains, or the inputs are embeddings in a stage
            that trains the backbone or the feature.
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
            raise ParameterError(f"The stage {stage.name!r} trains the backbone: it cannot use embeddings.")
        self.network = network
        self.stage = stage
        self.mixup = augmentation.mixup
        self.on_waveform = augmentation.on_waveform()
        self.on_feature = augmentation.on_feature()
        self.embedded = embedded
        # Part of the loss, and so not of the saved weights.
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._tracks: dict[int, tuple[int, Tensor]] = {}
        freeze(network, stage)

    def on_train_epoch_start(self) -> None:
        """Set trained parts to training mode, and frozen parts to evaluation mode."""
        self.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()  # no update of batch normalisation's statistics, and no dropout

    def training_step(self, batch: Sequence[Tensor], _index: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            MusgenreError: The loss is NaN or infinite.
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
        # Cross-entropy is linear in the target, so that a mix of losses is the loss of mixed labels.
        loss = share * self._loss(logits, labels) + (1 - share) * self._loss(logits, labels[partner])
        self._check(loss, inputs)
        size = len(labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], _index: int) -> None:
        """Accumulate the probabilities of each track's windows.

        Raises:
            MusgenreError: The loss is NaN or infinite.
        """
        inputs, labels, tracks = batch
        logits = self.network.head(inputs) if self.embedded else self.network(inputs)
        loss = F.cross_entropy(logits, labels)
        self._check(loss, inputs)
        self.log("valid_loss", loss, prog_bar=True, batch_size=len(labels), sync_dist=True)
        for track, label, row in zip(tracks.tolist(), labels.tolist(), logits.softmax(dim=1), strict=True):
            total = self._tracks[track][1] if track in self._tracks else torch.zeros_like(row)
            self._tracks[track] = (label, total + row)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy over tracks; the prediction of a track is the mean over its windows in all processes."""
        tracks: dict[int, tuple[int, Tensor]] = {}
        for part in gather({track: (label, total.cpu()) for track, (label, total) in self._tracks.items()}):
            for track, (label, total) in part.items():
                tracks[track] = (label, total + tracks[track][1] if track in tracks else total)
        self._tracks.clear()
        truth = [label for label, _ in tracks.values()]
        predicted = [int(total.argmax()) for _, total in tracks.values()]
        self.log("valid_accuracy", accuracy(truth, predicted), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Return the optimiser, with one parameter group for each trained part, and the learning rate schedule."""
        classes = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        groups = parameter_groups(self.network, self.stage)
        # Fused: on a CPU ten times as fast as one operation after the other, which matters for large heads.
        optimizer = classes[self.stage.optimizer](groups, weight_decay=self.stage.weight_decay, fused=True)
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
        message = f"The loss became {loss.item()} in stage {self.stage.name!r}, epoch {self.current_epoch + 1}"
        if not torch.isfinite(inputs).all():
            raise MusgenreError(f"{message}: the network's input is not finite. Check the tracks and the weights.")
        raise MusgenreError(f"{message}: choose a learning rate below {self.stage.learning_rate:g}.")


def parameter_groups(network: GenreNetwork, stage: Stage) -> list[dict[str, Any]]:
    """Return the parameters that a stage trains as the optimiser's groups, with ``name``, ``params`` and ``lr``.

    The groups are ordered from input to output: ``"rest"``, ``"stage 1"`` and so on, ``"head"``. A parameter that two
    parts share is in the first of their groups.

    Raises:
        ParameterError: The backbone has fewer stages than the stage trains.
    """
    parts = network.backbone.stages()
    frozen = len(parts) - stage.unfrozen
    if frozen < 0:
        raise ParameterError(f"The backbone has {len(parts)} stages: {stage.unfrozen} of them cannot be trained.")
    trained: list[tuple[str, list[nn.Parameter], float]] = []
    if stage.rest_rate is not None:
        known = {id(parameter) for part in (*parts, network.head) for parameter in part.parameters()}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
        trained.append(("rest", rest, stage.rest_rate))
    for number, (part, rate) in enumerate(zip(parts[frozen:], stage.backbone_rates, strict=True), start=frozen + 1):
        trained.append((f"stage {number}", list(part.parameters()), rate))
    trained.append(("head", list(network.head.parameters()), stage.learning_rate))
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for name, parameters, rate in trained:
        own = [parameter for parameter in parameters if id(parameter) not in seen]
        seen.update(map(id, own))
        if own:
            groups.append({"name": name, "params": own, "lr": rate})
    return groups


def freeze(network: GenreNetwork, stage: Stage) -> None:
    """Set ``requires_grad`` of all parameters of a network: true for those that the stage trains.

    Raises:
        ParameterError: The backbone has fewer stages than the stage trains.
    """
    groups = parameter_groups(network, stage)
    network.requires_grad_(False)
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)


def class_weights(labels: Sequence[int], *, classes: int) -> Tensor:
    """Return loss weights that are inverse to the number of tracks of each genre; their mean over tracks is 1.

    Args:
        labels: Label index of each training track; every label occurs.
        classes: Number of genres.

    Raises:
        ParameterError: A genre has no track.

    Example:
        >>> class_weights([0, 0, 0, 1], classes=2)
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes)
    if counts.min() == 0:
        raise ParameterError(f"class_weights needs a track of every genre, got {counts.tolist()} tracks by genre.")
    return len(labels) / (classes * counts.float())
