"""The log of a run: progress bar, metrics.jsonl and TensorBoard."""

import json
import logging
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model_training.run_folder import METRICS
from model_training.torch_utils import to_float
from model_training.training_state import Training

log = logging.getLogger(__name__)

READ_BACK_STEPS = 50
"""Losses stay on the device and are read this often: reading each would make a GPU wait for the host."""
SHOWN_PICTURES = 16


class RunLog:
    """Progress bar, JSON lines and TensorBoard of a run; silent where `active` is false."""

    def __init__(self, out: Path, training: Training, steps: int, active: bool) -> None:
        self.active = active
        self.steps = steps
        total = training.recipe.training.epochs * steps
        done = training.epoch * steps + training.step
        self.bar = tqdm(
            total=total, initial=done, unit="step", disable=None if active else True, smoothing=0.02
        )
        if active:
            out.mkdir(parents=True, exist_ok=True)
            _keep_epochs(out / METRICS, training.epoch)
            self.lines = (out / METRICS).open("a", buffering=1)
            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=training.epoch + 1)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.active:
            self.lines.close()
            self.board.close()

    def step(self, training: Training) -> None:
        self.bar.update()
        if training.step % READ_BACK_STEPS == 0 and not self.bar.disable:
            total, reconstruction, kl, squared_error = (training.totals / training.step).tolist()
            psnr = -10 * math.log10(squared_error) if squared_error > 0 else math.nan
            self.bar.set_postfix_str(
                f"loss {total:.1f} = {reconstruction:.1f} + KL {kl:.1f}, PSNR {psnr:.2f} dB", refresh=False
            )

    def epoch(self, training: Training, metrics: dict[str, float]) -> None:
        self.lines.write(json.dumps({"epoch": training.epoch, **metrics}) + "\n")
        for name, value in metrics.items():
            self.board.add_scalar(name, value, training.epoch)
        if self.bar.disable:
            log.info(
                "epoch %d: loss %.1f, validation loss %.1f, validation PSNR %.2f dB",
                training.epoch,
                metrics["total"],
                metrics["validation_loss"],
                metrics["validation_psnr"],
            )

    def pictures(self, training: Training, held_out: Tensor) -> None:
        """Originals, their reconstructions and samples of the standard prior, for TensorBoard."""
        model = training.result.eval()
        shown = to_float(held_out[:SHOWN_PICTURES])
        generator = torch.Generator(shown.device).manual_seed(0)
        noise = torch.randn(len(shown), model.config.latent_dim, generator=generator, device=shown.device)
        with torch.inference_mode():
            reconstructions = model.to_pictures(model.decoder(model.encoder(shown).mean))
            samples = model.to_pictures(model.decoder(noise))
        for name, batch in (("originals", shown), ("reconstructions", reconstructions), ("samples", samples)):
            self.board.add_images(name, batch, training.epoch)


def _keep_epochs(path: Path, epochs: int) -> None:
    """Drop the lines of later epochs, which a resumed run writes again."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["epoch"] <= epochs]
        path.write_text("".join(line + "\n" for line in lines))
