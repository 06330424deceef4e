"""A second stage for the decoder: it goes on against a discriminator, as the encoder and every latent stay.

A likelihood leaves what the latent does not say at its mean, which is blur. A discriminator (Larsen et al.
2016) asks for one sharp answer instead, and, shown what becomes of draws from the prior, for pictures that
look like photographs from where no picture was encoded. It is dropped in the end.
"""

import copy
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from app.images.arrays import ImageArray
from app.model.prior import read_prior
from model_training import checkpoint
from model_training.backends.torch_backend import TorchBackend
from model_training.data.augmentation import augment
from model_training.networks.vae import VAE
from model_training.recipe import Recipe, SharpeningConfig
from model_training.run_folder import BEST, LATEST, PRIOR
from model_training.torch_utils import has_bf16, to_float
from model_training.train import CHECKPOINT_SECONDS, validate

log = logging.getLogger(__name__)

BETAS = (0.5, 0.99)
WARM_UP_STEPS = 200
"""Steps in which the discriminator alone learns."""

AVERAGE = 0.998
LEAK = 0.2
LOG_STEPS = 100
DRAWS = 16384
"""Latents drawn from the prior, in advance."""


class Discriminator(nn.Module):
    """Judges patches of about a quarter of a picture, and the picture as a whole."""

    def __init__(self, width: int, height: int, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        one, two, three, four = channels
        self.near = nn.Sequential(_down(3, one), _down(one, two), _down(two, three))
        self.patches = spectral_norm(nn.Conv2d(three, 1, 3, padding=1))
        self.far = _down(three, four)
        self.whole = spectral_norm(nn.Linear((four + 1) * (width // 16) * (height // 16), 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Of (N, 3, H, W) in 0..1: scores of patches (N, 1, H/8, W/8) and of the whole (N, 1).

        The whole's share of a batch is judged with how much its pictures differ (Karras et al. 2018), against
        a decoder that makes the same of everything.
        """
        near = self.near(2 * pictures - 1)
        far = self.far(near)
        spread = far.float().std(0, keepdim=True).mean(1, keepdim=True).to(far.dtype)
        far = torch.cat([far, spread.expand(len(far), -1, -1, -1)], 1)
        return self.patches(near).float(), self.whole(far.flatten(1)).float()


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(LEAK)
    )


class Sharpening:
    """What changes as the decoder is sharpened; all of it is in a checkpoint."""

    def __init__(self, recipe: Recipe, config: SharpeningConfig, model: VAE) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.config, self.step = recipe, config, 0
        # Statistics of batch norm stay too: those of half reconstructions, half samples are neither's.
        self.model = model.eval().requires_grad_(False)
        decoder = model.decoder
        fixed = {id(parameter) for parameter in model.linear_parameters()}
        trained = [parameter for parameter in decoder.parameters() if id(parameter) not in fixed]
        for parameter in trained:
            parameter.requires_grad_()
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.discriminator = Discriminator(recipe.model.width, recipe.model.height, config.channels).to(
            memory_format=torch.channels_last  # type: ignore[call-overload]
        )
        rate = config.learning_rate
        self.optimizer = torch.optim.Adam(trained, lr=rate, betas=BETAS, fused=True)
        self.critic = torch.optim.Adam(self.discriminator.parameters(), lr=2 * rate, betas=BETAS, fused=True)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        parts = ("model", "average", "discriminator", "optimizer", "critic")
        saved = {name: getattr(self, name).state_dict() for name in parts}
        return {"recipe": self.recipe.to_dict(), "step": self.step, **saved}

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: no checkpoint, or one of another recipe.
        """
        state = checkpoint.load(path)
        if state.pop("recipe", None) != self.recipe.to_dict():
            raise ValueError(
                f"{path} was sharpened by another recipe; resume with that one or choose another --out"
            )
        self.step = state.pop("step")
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)

    def advance(self, pictures: Tensor, draws: Tensor, bf16: bool) -> Tensor:
        """One step of both networks.

        Args:
            pictures: (N, 3, H, W) in 0..1.
            draws: (M, latent_dim) from the prior.

        Returns:
            mean square error, and the discriminator's mean scores of photographs, of reconstructions and of
            samples: (4,).
        """
        count, model = len(pictures), self.model
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            latents = torch.cat([model.encoder(pictures).mean, draws])
            output = model.decoder(latents)
            made = output.detach().requires_grad_()
            scores = self._scores(made)
            (wish,) = torch.autograd.grad(scores.sum(), made, retain_graph=True)
            real = self._scores(pictures)
        hinges = F.relu(1 + scores).mean(1)
        loss = F.relu(1 - real).mean() + (hinges[:count].mean() + hinges[count:].mean()) / 2
        self.critic.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic.step()
        error = made.detach()[:count] - pictures
        if self.step >= WARM_UP_STEPS:
            self._follow(output, error, wish)
        self.step += 1
        kinds = (real, scores[:count], scores[count:])
        return torch.stack([error.square().mean(), *(kind.detach().mean() for kind in kinds)])

    def _scores(self, pictures: Tensor) -> Tensor:
        """(N, 2): the mean of the patches', and that of the whole."""
        patches, whole = self.discriminator(pictures)
        return torch.stack([patches.mean((1, 2, 3)), whole[:, 0]], 1)

    def _follow(self, output: Tensor, error: Tensor, wish: Tensor) -> None:
        """Move the decoder: towards the pictures, and, with `weight` times the strength, to where the
        discriminator would have the output."""
        count = len(error)
        strength = self.config.weight * error.square().mean().sqrt()
        gradient = torch.cat(
            [-strength * part / (part.square().mean().sqrt() + 1e-20) for part in torch.split(wish, count)]
        )
        gradient[:count] += error
        progress = (self.step - WARM_UP_STEPS) / (self.config.steps - WARM_UP_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.zero_grad(set_to_none=True)
        output.backward(gradient / count)  # type: ignore[no-untyped-call]
        self.optimizer.step()
        decay = min(AVERAGE, (self.step - WARM_UP_STEPS + 1) / (self.step - WARM_UP_STEPS + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                if value.requires_grad:
                    mean.lerp_(value, 1 - decay)


def sharpen(
    run: Path,
    out: Path,
    recipe: Recipe,
    pixels: ImageArray,
    validation: ImageArray,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Sharpen the decoder of a run, as the recipe says, on the CPU.

    Args:
        run: a training run with best.pt and prior.npz; `out` gets the same.
        pixels, validation: (N, height, width, 3) uint8.
        resume: go on from out/checkpoint.pt.

    Returns:
        the validation figures of the sharpened model.

    Raises:
        ValueError: the recipe does not sharpen or is of another model, or there is no prior or nothing to
            resume.
    """
    config, backend = recipe.sharpening, TorchBackend(run)
    if config is None or backend.recipe.model != recipe.model:
        raise ValueError(f"recipe {recipe.name!r} has no [sharpening] for the model of {run}")
    if backend.model.likelihood != "gaussian":
        raise ValueError("only a decoder with a Gaussian likelihood can be sharpened")
    if not (run / PRIOR).is_file():
        raise ValueError(f"{run} has no {PRIOR}; fit-prior comes first")
    fitted = (run / PRIOR).read_bytes()
    draws = torch.from_numpy(read_prior(fitted, backend.latent_dim).draw(DRAWS, recipe.seed))
    model = backend.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = Sharpening(recipe, config, model)
    if resume:
        training.load(out / LATEST)
    data = torch.from_numpy(pixels)
    size = min(config.batch_size, len(data))
    bf16 = has_bf16(torch.device("cpu"))
    totals, saved_at = torch.zeros(4), time.perf_counter()
    while training.step < config.steps:
        seed = int(np.random.SeedSequence((recipe.seed, training.step)).generate_state(1, np.uint64)[0]) >> 1
        generator = torch.Generator().manual_seed(seed)
        batch = data[torch.randint(len(data), (size,), generator=generator)]
        flips = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
        pictures = augment(to_float(torch.where(flips, batch.flip(2), batch)), generator)
        chosen = draws[torch.randint(DRAWS, (size,), generator=generator)]
        totals += training.advance(pictures, chosen, bf16)
        if training.step % LOG_STEPS == 0:
            square, *scores = (totals / LOG_STEPS).tolist()
            log.info(
                "step %d: PSNR %.2f dB; scores of photographs %.2f, reconstructions %.2f, samples %.2f",
                training.step,
                -10 * math.log10(square),
                *scores,
            )
            totals.zero_()
        if training.step == config.steps or time.perf_counter() - saved_at > CHECKPOINT_SECONDS:
            checkpoint.save(out / LATEST, training.state())
            saved_at = time.perf_counter()
    before = TorchBackend(run).model.parameters()
    with torch.no_grad():
        for start, end in zip(before, training.average.parameters(), strict=True):
            end.copy_(start.lerp(end, config.share))
    figures = validate(training.average, torch.from_numpy(validation))
    checkpoint.save(
        out / BEST,
        {
            "recipe": recipe.to_dict(),
            "model": training.average.state_dict(),
            "epoch": backend.state["epoch"],
            "validation": figures,
        },
    )
    (out / PRIOR).write_bytes(fitted)
    return figures
