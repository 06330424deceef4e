"""Log of a run: progress bar, metrics.jsonl and TensorBoard."""

import json
import logging
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model_training.run_folder import METRICS, TENSORBOARD
from model_training.torch_utils import to_float
from model_training.training_state import TrainingState

log = logging.getLogger(__name__)

READ_BACK_STEPS = 50
"""Losses stay on the device and are read this often: reading each would make a GPU wait for the host."""
SHOWN_IMAGES = 16


class RunLog:
    """Progress bar, JSON lines and TensorBoard of a run; silent where `active` is false."""

    def __init__(self, out: Path, state: TrainingState, steps_per_epoch: int, active: bool) -> None:
        self.active = active
        total = state.recipe.training.epochs * steps_per_epoch
        done = state.epoch * steps_per_epoch + state.step
        self.bar = tqdm(
            total=total, initial=done, unit="step", disable=None if active else True, smoothing=0.02
        )
        if active:
            out.mkdir(parents=True, exist_ok=True)
            _keep_epochs(out / METRICS, state.epoch)
            self.lines = (out / METRICS).open("a", buffering=1)
            self.board = SummaryWriter(str(out / TENSORBOARD), purge_step=state.epoch + 1)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.active:
            self.lines.close()
            self.board.close()

    def log_step(self, state: TrainingState) -> None:
        self.bar.update()
        if state.step % READ_BACK_STEPS == 0 and not self.bar.disable:
            total, reconstruction, kl, squared_error = (state.totals / state.step).tolist()
            psnr = -10 * math.log10(squared_error) if squared_error > 0 else math.nan
            self.bar.set_postfix_str(
                f"loss {total:.1f} = {reconstruction:.1f} + KL {kl:.1f}, PSNR {psnr:.2f} dB", refresh=False
            )

    def log_epoch(self, state: TrainingState, metrics: dict[str, float]) -> None:
        self.lines.write(json.dumps({"epoch": state.epoch, **metrics}) + "\n")
        for name, value in metrics.items():
            self.board.add_scalar(name, value, state.epoch)
        if self.bar.disable:
            log.info(
                "epoch %d: loss %.1f, validation loss %.1f, validation PSNR %.2f dB",
                state.epoch,
                metrics["total"],
                metrics["validation_loss"],
                metrics["validation_psnr"],
            )

    def log_images(self, state: TrainingState, held_out: Tensor) -> None:
        """Show originals, their reconstructions and samples of the standard prior in TensorBoard."""
        model = state.result.eval()
        shown = to_float(held_out[:SHOWN_IMAGES])
        generator = torch.Generator(shown.device).manual_seed(0)
        noise = torch.randn(len(shown), model.config.latent_dim, generator=generator, device=shown.device)
        with torch.inference_mode():
            reconstructions = model.to_images(model.decoder(model.encoder(shown).mean))
            samples = model.to_images(model.decoder(noise))
        for name, images in (
            ("originals", shown),
            ("reconstructions", reconstructions),
            ("samples", samples),
        ):
            self.board.add_images(name, images, state.epoch)


def _keep_epochs(path: Path, epochs: int) -> None:
    """Drop the lines of later epochs, which a resumed run writes again."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["epoch"] <= epochs]
        path.write_text("".join(line + "\n" for line in lines))
