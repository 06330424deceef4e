"""Training state: weights, their moving average, optimizer and progress of a run; starts, saves, resumes."""

import copy
import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.images.arrays import ImageArray
from model_training import checkpoint
from model_training.networks.vae import VAE
from model_training.recipe import Recipe, TrainingConfig
from model_training.run_folder import BEST, LATEST


@dataclass
class TrainingState:
    """All that changes as a run goes on; it is in each checkpoint."""

    recipe: Recipe
    model: VAE
    optimizer: torch.optim.Adam
    totals: Tensor
    """Sums over this epoch's steps so far: total, reconstruction, KL (nats an image) and squared error."""
    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Steps completed in the present epoch."""
    average: VAE | None = None
    """The moving average of the model, where the recipe wants one."""
    best: dict[str, Any] | None = field(default=None)
    """The model with the lowest validation loss, where it is not yet on disk."""
    best_loss: float = math.inf

    @classmethod
    def start(cls, recipe: Recipe, device: torch.device, images: ImageArray | None = None) -> "TrainingState":
        """The state of a fresh run; its weights depend on the recipe's seed and on the training images.

        Args:
            images: (N, height, width, 3) uint8; None where the weights will be read from a checkpoint.
        """
        torch.manual_seed(recipe.seed)
        model = VAE(recipe.model)
        if images is not None:
            model.init_from_pca(images)
        model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = _parameter_groups(model, recipe.training)
        optimizer = torch.optim.Adam(groups, lr=recipe.training.learning_rate, fused=True)
        average = copy.deepcopy(model).requires_grad_(False) if recipe.training.average else None
        return cls(recipe, model, optimizer, torch.zeros(4, device=device), average=average)

    @classmethod
    def resume(cls, path: Path, recipe: Recipe, device: torch.device) -> "TrainingState":
        """The state that a checkpoint holds.

        Raises:
            ValueError: no checkpoint, or one of another recipe (only the epochs and the prior may differ).
        """
        state = checkpoint.load(path)
        saved = Recipe.from_dict(state["recipe"])
        if dataclasses.replace(saved.with_epochs(recipe.training.epochs), prior=recipe.prior) != recipe:
            raise ValueError(
                f"{path} was trained by another recipe; resume with that one or choose another --out"
            )
        resumed = cls.start(recipe, device)
        resumed.model.load_state_dict(state["model"])
        resumed.optimizer.load_state_dict(state["optimizer"])
        if resumed.average is not None:
            resumed.average.load_state_dict(state["average"])
        resumed.totals.copy_(state["totals"])
        resumed.epoch, resumed.step, resumed.best_loss = state["epoch"], state["step"], state["best_loss"]
        return resumed

    @property
    def result(self) -> VAE:
        """The model to validate and export."""
        return self.model if self.average is None else self.average

    def save(self, out: Path) -> None:
        """Write the newest state, and the best model where it is new."""
        if self.best is not None:
            checkpoint.save(out / BEST, self.best)
            self.best = None
        checkpoint.save(
            out / LATEST,
            {
                "recipe": self.recipe.to_dict(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "totals": self.totals,
                "epoch": self.epoch,
                "step": self.step,
                "best_loss": self.best_loss,
            },
        )


def _parameter_groups(model: VAE, config: TrainingConfig) -> list[dict[str, Any]]:
    """The linear codec and everything else, each with the fraction of the learning rate it learns at."""
    linear = model.linear_parameters()
    chosen = {id(parameter) for parameter in linear}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [{"params": others, "rate": 1.0}, {"params": linear, "rate": config.linear_rate}]
    return [group for group in groups if group["params"]]
