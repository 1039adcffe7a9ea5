"""The LightningModule: what one step of training and of validation does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from musgenre.errors import MusgenreError, ParameterError
from musgenre.metrics import accuracy
from musgenre.network import GenreNetwork
from musgenre.training.plan import Augmentation, Stage


class GenreModule(pl.LightningModule):
    """Trains a network for one stage.

    Args:
        network: The network; it is changed in place.
        stage: What learns, and how.
        augmentation: How windows are varied.
        cached: Whether batches hold features in place of samples.

    Raises:
        ParameterError: Samples are to be varied, but batches hold features.
    """

    def __init__(
        self, network: GenreNetwork, stage: Stage, *, augmentation: Augmentation, cached: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.stage = stage
        self.mixup = augmentation.mixup
        self.on_waveform = augmentation.on_waveform()
        self.on_feature = augmentation.on_feature()
        self.cached = cached
        if cached and len(self.on_waveform):
            raise ParameterError(
                "gain_db and speed vary samples, which a cache of spectrograms has left behind: drop one."
            )
        freeze(network, unfrozen=stage.unfrozen)
        self._tracks: dict[int, tuple[int, Tensor]] = {}

    def on_train_epoch_start(self) -> None:
        """Puts what learns into training mode, and what is frozen into evaluation mode."""
        self.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()  # frozen batch normalisation keeps its statistics, frozen dropout drops nothing

    def training_step(self, batch: Sequence[Tensor], _index: int) -> Tensor:
        """Returns the loss of a batch that starts with ``inputs, labels``.

        Raises:
            MusgenreError: The loss is no longer a number.
        """
        inputs, labels = batch[:2]
        feature = inputs if self.cached else self.network.feature(self.on_waveform(inputs))
        feature = self.on_feature(feature)
        share, partner = 1.0, torch.arange(len(labels), device=labels.device)
        if self.mixup:
            share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
            partner = torch.randperm(len(labels), device=labels.device)
            feature = share * feature + (1 - share) * feature[partner]
        logits = self.network.classify(feature)
        # The loss is linear in the target, so that mixing losses is mixing labels.
        loss = share * self._loss(logits, labels) + (1 - share) * self._loss(logits, labels[partner])
        if not torch.isfinite(loss):
            raise MusgenreError(
                f"The loss became {loss.item()} in stage {self.stage.name!r}, epoch {self.current_epoch + 1}: choose a "
                f"learning rate below {self.stage.learning_rate:g}."
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: Sequence[Tensor], _index: int) -> None:
        """Collects the probabilities of ``(inputs, labels, track indices)`` by track."""
        inputs, labels, tracks = batch
        logits = self.network.classify(inputs) if self.cached else self.network(inputs)
        self.log("valid_loss", F.cross_entropy(logits, labels), prog_bar=True, batch_size=len(labels))
        for track, label, row in zip(tracks.tolist(), labels.tolist(), logits.softmax(dim=1), strict=True):
            so_far = self._tracks[track][1] if track in self._tracks else torch.zeros_like(row)
            self._tracks[track] = (label, so_far + row)

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy over tracks, each judged by the mean of its windows."""
        truth = [label for label, _ in self._tracks.values()]
        predicted = [int(total.argmax()) for _, total in self._tracks.values()]
        self._tracks.clear()
        self.log("valid_accuracy", accuracy(truth, predicted), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Returns the optimiser over what is not frozen, and the schedule of its rate."""
        kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        rate = self.stage.learning_rate
        optimizer = kinds[self.stage.optimizer](learning, lr=rate, weight_decay=self.stage.weight_decay)
        if self.stage.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=max(steps, 1), pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.stage.label_smoothing)


def freeze(network: GenreNetwork, *, unfrozen: int) -> None:
    """Says which parameters learn: the head, and the backbone's last stages.

    Args:
        network: Its parameters' ``requires_grad`` are set.
        unfrozen: How many of the backbone's stages learn, counted from the output. With all of them,
            parameters that belong to no stage, and the feature's, learn as well.

    Raises:
        ParameterError: The backbone has fewer stages.
    """
    stages = network.backbone.stages()
    if not 0 <= unfrozen <= len(stages):
        raise ParameterError(
            f"The backbone has {len(stages)} stages: unfreeze 0 to {len(stages)} of them, not {unfrozen!r}."
        )
    network.requires_grad_(unfrozen == len(stages))
    network.head.requires_grad_(True)
    for stage in stages[len(stages) - unfrozen :]:
        stage.requires_grad_(True)
