"""Fine-tuning (command finetune, after train): a new run, taught by features and on refined latents too.

Whatever the latent does not say, a likelihood leaves at its mean, which is blur. Features of a contrastive
network say what an image looks like, so that the decoder may be sharp where it cannot be exact. Their grid is
shifted at random in each step: a decoder learns the strides of a grid that stands still, and draws a hatch.
"""

import copy
import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.images.arrays import ImageArray
from model_training import checkpoint
from model_training.backends.torch_backend import TorchBackend
from model_training.data.augmentation import augment
from model_training.evaluation import simclr
from model_training.networks import subpixel_vae
from model_training.networks.vae import VAE
from model_training.recipe import FinetuningConfig, Recipe
from model_training.refinement.fit import fit_refiner, folded_decoder
from model_training.refinement.refiner import Refiner, RefinerStatistics
from model_training.run_folder import BEST, LATEST
from model_training.torch_utils import (
    cosine_with_warm_up,
    fold_batch_norms,
    has_bf16,
    seed_from,
    set_learning_rate,
    to_float,
    update_ema,
)
from model_training.train import CHECKPOINT_SECONDS, validate

log = logging.getLogger(__name__)

BETAS = (0.9, 0.99)
WARM_UP_STEPS = 50
AVERAGE = 0.998
LOG_STEPS = 100

LARGEST_SHIFT = 8
"""Pixels; the feature network's stages have strides of up to 16, the two that see detail of 2 and 4."""


class FeatureLoss(nn.Module):
    """How far images differ in each stage of a feature network, each place's features scaled to length 1."""

    def __init__(self, network: simclr.FeatureExtractor) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, output: Tensor, images: Tensor, shift: tuple[int, int]) -> Tensor:
        """The mean squared distance, summed over the stages.

        Args:
            output, images: (N, 3, H, W) in 0..1.
            shift: by how many pixels, 0 to LARGEST_SHIFT - 1, down and right, both are moved on the grid.
        """
        with torch.no_grad():
            wanted = self.network.stage_maps(_shifted(images, shift))
        found = self.network.stage_maps(_shifted(output, shift))
        distances = [
            (_normalised(a) - _normalised(b)).square().sum(1).mean()
            for a, b in zip(found, wanted, strict=True)
        ]
        return torch.stack(distances).sum()


def _shifted(images: Tensor, shift: tuple[int, int]) -> Tensor:
    padded = F.pad(images, (LARGEST_SHIFT,) * 4, mode="replicate")
    return padded[:, :, shift[0] :, shift[1] :]


def _normalised(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-6)


class Finetuning:
    """Model, its average and its optimizer; all of it is in a checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        config: FinetuningConfig,
        model: VAE,
        loss: FeatureLoss,
        statistics: RefinerStatistics,
    ) -> None:
        self.recipe, self.config, self.step = recipe, config, 0
        # Statistics of batch norm stay too, as half of what the decoder sees is not the encoder's.
        self.model = model.eval().requires_grad_(False)
        encoder, decoder = model.encoder, model.decoder
        assert isinstance(encoder, subpixel_vae.Encoder)
        assert isinstance(decoder, subpixel_vae.Decoder)
        self.encoder, self.decoder = encoder, decoder
        fixed = {id(parameter) for parameter in model.linear_parameters()}
        trained = [
            parameter
            for part in (encoder.convolutions, encoder.correction, decoder)
            for parameter in part.parameters()
            if id(parameter) not in fixed
        ]
        for parameter in trained:
            parameter.requires_grad_()
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.optimizer = torch.optim.Adam(trained, lr=config.learning_rate, betas=BETAS, fused=True)
        self.loss, self.statistics = loss, statistics

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        saved = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer", "loss")}
        return {"recipe": self.recipe.to_dict(), "step": self.step, **saved}

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: no checkpoint, or one of another recipe.
        """
        state = checkpoint.load(path)
        if state.pop("recipe", None) != self.recipe.to_dict():
            raise ValueError(
                f"{path} was fine-tuned by another recipe; resume with that one or choose another --out"
            )
        self.step = state.pop("step")
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)

    def advance(self, images: Tensor, shift: tuple[int, int], bf16: bool) -> Tensor:
        """Make one step.

        Args:
            images: (N, 3, H, W) in 0..1, of which the first `refined` are decoded from refined latents.

        Returns:
            mean square errors of refined and of encoded latents, and the feature loss: (3,).
        """
        count = round(self.config.refined * len(images))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            encoded = self.model.encoder(images).mean
        latents = torch.cat([self._refined(images[:count], encoded[:count].detach()), encoded[count:]])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = self.model.decoder(latents)
            features = self.loss(output.clamp(0, 1), images, shift)
        squares = (output - images).square().mean((1, 2, 3))
        error = squares.mean()
        rate = cosine_with_warm_up(self.config.learning_rate, self.step, self.config.steps, WARM_UP_STEPS)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        (error / error.detach() + self.config.feature_weight * features).backward()
        self.optimizer.step()
        update_ema(self.average, self.model, AVERAGE, self.step)
        self.step += 1
        parts = (squares[:count].mean(), squares[count:].mean(), features)
        return torch.stack([part.detach().float() for part in parts])

    @torch.no_grad()
    def _refined(self, images: Tensor, latents: Tensor) -> Tensor:
        """Latents as the refiner of the present decoder would have them, after fewer steps."""
        refiner = Refiner(fold_batch_norms(self.decoder), self.statistics, self.config.refinement_steps)
        refined, _, _ = refiner.descend(F.pixel_unshuffle(images, subpixel_vae.CELL), latents)
        return refined


def finetune(
    run: Path,
    out: Path,
    recipe: Recipe,
    images: ImageArray,
    validation: ImageArray,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Fine-tune a run as the recipe says, on the CPU: the encoder's convolutions, and all of the decoder but
    its linear part. The feature network is trained first.

    Args:
        run: a training run with best.pt.
        images, validation: (N, height, width, 3) uint8.
        resume: go on from out/checkpoint.pt.

    Returns:
        the validation figures of the fine-tuned model.

    Raises:
        ValueError: the recipe has no such stage or is of another model, or there is nothing to resume.
    """
    config, backend = recipe.finetuning, TorchBackend(run)
    if config is None or backend.recipe.model != recipe.model:
        raise ValueError(f"recipe {recipe.name!r} has no [finetuning] for the model of {run}")
    statistics = fit_refiner(folded_decoder(backend.model), backend.encode(images)[0])
    features = simclr.FeatureRecipe(
        width=recipe.model.width, height=recipe.model.height, **dataclasses.asdict(config.features)
    )
    network = simclr.FeatureExtractor(features) if resume else simclr.fit(features, images)
    model = backend.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tuning = Finetuning(recipe, config, model, FeatureLoss(network), statistics)
    if resume:
        tuning.load(out / LATEST)
    data = torch.from_numpy(images)
    size = min(config.batch_size, len(data))
    bf16 = has_bf16(torch.device("cpu"))
    totals, saved_at = torch.zeros(3), time.perf_counter()
    while tuning.step < config.steps:
        generator = torch.Generator().manual_seed(seed_from(recipe.seed, tuning.step))
        batch = data[torch.randint(len(data), (size,), generator=generator)]
        flips = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
        originals = augment(to_float(torch.where(flips, batch.flip(2), batch)), generator)
        down, right = torch.randint(LARGEST_SHIFT, (2,), generator=generator).tolist()
        totals += tuning.advance(originals, (down, right), bf16)
        if tuning.step % LOG_STEPS == 0:
            refined, encoded, distance = (totals / LOG_STEPS).tolist()
            log.info(
                "step %d: PSNR of refined latents %.2f dB, of encoded ones %.2f dB; feature loss %.3f",
                tuning.step,
                -10 * math.log10(refined),
                -10 * math.log10(encoded),
                distance,
            )
            totals.zero_()
        if tuning.step == config.steps or time.perf_counter() - saved_at > CHECKPOINT_SECONDS:
            checkpoint.save(out / LATEST, tuning.state_dict())
            saved_at = time.perf_counter()
    figures = validate(tuning.average, torch.from_numpy(validation))
    checkpoint.save(
        out / BEST,
        {
            "recipe": recipe.to_dict(),
            "model": tuning.average.state_dict(),
            "epoch": backend.state["epoch"],
            "validation": figures,
        },
    )
    return figures
