"""Adversarial fine-tuning (command sharpen, after fit-prior): a new run, its decoder taught by an adversary.

A likelihood leaves what the latent does not say at its mean, which is blur. A discriminator (Larsen et al.
2016) asks for one sharp answer instead, and, shown what becomes of draws from the prior, for images that
look like photographs from where no image was encoded. It is dropped in the end.
"""

import copy
import logging
import math
import time
from pathlib import Path
from typing import Any

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
from model_training.recipe import AdversarialConfig, Recipe
from model_training.run_folder import BEST, LATEST, PRIOR
from model_training.torch_utils import cosine, has_bf16, seed_from, set_learning_rate, to_float, update_ema
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
    """Scores patches of about a quarter of an image, and the image as a whole."""

    def __init__(self, width: int, height: int, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        one, two, three, four = channels
        self.near = nn.Sequential(_down(3, one), _down(one, two), _down(two, three))
        self.patches = spectral_norm(nn.Conv2d(three, 1, 3, padding=1))
        self.far = _down(three, four)
        self.whole = spectral_norm(nn.Linear((four + 1) * (width // 16) * (height // 16), 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of (N, 3, H, W) in 0..1: scores of patches (N, 1, H/8, W/8) and of the whole (N, 1).

        The score of the whole also sees how much the images of a batch differ (Karras et al. 2018), against a
        decoder that makes the same of everything.
        """
        near = self.near(2 * images - 1)
        far = self.far(near)
        spread = far.float().std(0, keepdim=True).mean(1, keepdim=True).to(far.dtype)
        far = torch.cat([far, spread.expand(len(far), -1, -1, -1)], 1)
        return self.patches(near).float(), self.whole(far.flatten(1)).float()


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(LEAK)
    )


class AdversarialFineTuning:
    """Decoder, discriminator, their optimizers and the decoder's average; all of it is in a checkpoint."""

    def __init__(self, recipe: Recipe, config: AdversarialConfig, model: VAE) -> None:
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
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=2 * rate, betas=BETAS, fused=True
        )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        parts = ("model", "average", "discriminator", "optimizer", "discriminator_optimizer")
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
                f"{path} was fine-tuned by another recipe; resume with that one or choose another --out"
            )
        self.step = state.pop("step")
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)

    def advance(self, images: Tensor, draws: Tensor, bf16: bool) -> Tensor:
        """Make one step of both networks.

        Args:
            images: (N, 3, H, W) in 0..1.
            draws: (M, latent_dim) from the prior.

        Returns:
            mean square error, and the discriminator's mean scores of photographs, of reconstructions and of
            samples: (4,).
        """
        count, model = len(images), self.model
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            latents = torch.cat([model.encoder(images).mean, draws])
            output = model.decoder(latents)
            made = output.detach().requires_grad_()
            scores = self._scores(made)
            (critic_gradient,) = torch.autograd.grad(scores.sum(), made, retain_graph=True)
            real = self._scores(images)
        hinges = F.relu(1 + scores).mean(1)
        loss = F.relu(1 - real).mean() + (hinges[:count].mean() + hinges[count:].mean()) / 2
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.discriminator_optimizer.step()
        error = made.detach()[:count] - images
        if self.step >= WARM_UP_STEPS:
            self._update_decoder(output, error, critic_gradient)
        self.step += 1
        kinds = (real, scores[:count], scores[count:])
        return torch.stack([error.square().mean(), *(kind.detach().mean() for kind in kinds)])

    def _scores(self, images: Tensor) -> Tensor:
        """(N, 2): the mean of the patches', and that of the whole."""
        patches, whole = self.discriminator(images)
        return torch.stack([patches.mean((1, 2, 3)), whole[:, 0]], 1)

    def _update_decoder(self, output: Tensor, error: Tensor, critic_gradient: Tensor) -> None:
        """Move the decoder: towards the images, and, with `weight` times the strength, to where the
        discriminator would have the output."""
        count = len(error)
        strength = self.config.weight * error.square().mean().sqrt()
        gradient = torch.cat(
            [
                -strength * part / (part.square().mean().sqrt() + 1e-20)
                for part in torch.split(critic_gradient, count)
            ]
        )
        gradient[:count] += error
        step = self.step - WARM_UP_STEPS
        progress = step / (self.config.steps - WARM_UP_STEPS)
        set_learning_rate(self.optimizer, self.config.learning_rate * cosine(progress))
        self.optimizer.zero_grad(set_to_none=True)
        output.backward(gradient / count)  # type: ignore[no-untyped-call]
        self.optimizer.step()
        update_ema(self.average.decoder, self.model.decoder, AVERAGE, step)


def fine_tune(
    run: Path,
    out: Path,
    recipe: Recipe,
    images: ImageArray,
    validation: ImageArray,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Fine-tune the decoder of a run adversarially, as the recipe says, on the CPU.

    Args:
        run: a training run with best.pt and prior.npz; `out` gets the same.
        images, validation: (N, height, width, 3) uint8.
        resume: go on from out/checkpoint.pt.

    Returns:
        the validation figures of the fine-tuned model.

    Raises:
        ValueError: the recipe has no such stage or is of another model, or there is no prior or nothing to
            resume.
    """
    config, backend = recipe.adversarial, TorchBackend(run)
    if config is None or backend.recipe.model != recipe.model:
        raise ValueError(f"recipe {recipe.name!r} has no [adversarial] for the model of {run}")
    if backend.model.likelihood != "gaussian":
        raise ValueError("only a decoder with a Gaussian likelihood can be fine-tuned adversarially")
    if not (run / PRIOR).is_file():
        raise ValueError(f"{run} has no {PRIOR}; fit-prior comes first")
    fitted = (run / PRIOR).read_bytes()
    draws = torch.from_numpy(read_prior(fitted, backend.latent_dim).draw(DRAWS, recipe.seed))
    model = backend.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tuning = AdversarialFineTuning(recipe, config, model)
    if resume:
        tuning.load(out / LATEST)
    data = torch.from_numpy(images)
    size = min(config.batch_size, len(data))
    bf16 = has_bf16(torch.device("cpu"))
    totals, saved_at = torch.zeros(4), time.perf_counter()
    while tuning.step < config.steps:
        generator = torch.Generator().manual_seed(seed_from(recipe.seed, tuning.step))
        batch = data[torch.randint(len(data), (size,), generator=generator)]
        flips = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
        originals = augment(to_float(torch.where(flips, batch.flip(2), batch)), generator)
        chosen = draws[torch.randint(DRAWS, (size,), generator=generator)]
        totals += tuning.advance(originals, chosen, bf16)
        if tuning.step % LOG_STEPS == 0:
            square, *scores = (totals / LOG_STEPS).tolist()
            log.info(
                "step %d: PSNR %.2f dB; scores of photographs %.2f, reconstructions %.2f, samples %.2f",
                tuning.step,
                -10 * math.log10(square),
                *scores,
            )
            totals.zero_()
        if tuning.step == config.steps or time.perf_counter() - saved_at > CHECKPOINT_SECONDS:
            checkpoint.save(out / LATEST, tuning.state_dict())
            saved_at = time.perf_counter()
    before = TorchBackend(run).model.parameters()
    with torch.no_grad():
        for start, end in zip(before, tuning.average.parameters(), strict=True):
            end.copy_(start.lerp(end, config.interpolation))
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
    (out / PRIOR).write_bytes(fitted)
    return figures
