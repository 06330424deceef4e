"""The commands of training: python -m model_training COMMAND --help.

Each imports what it needs when it runs: `evaluate` and `plot` work on an exported model folder without torch.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

from model_training import data

CACHE = Path.home() / ".cache" / "car-vae"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        status: int = options.run(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def train(options: argparse.Namespace) -> int:
    """Train a recipe on a folder of pictures."""
    from model_training.config import Recipe
    from model_training.distributed import world
    from model_training.train import Diverged, Interrupted, has_bf16
    from model_training.train import train as run

    recipe = Recipe.load(options.recipe)
    if options.epochs is not None:
        recipe = recipe.with_epochs(options.epochs)
    size = recipe.model.width, recipe.model.height
    pictures, validation = data.load_split(options.data, options.val, *size, CACHE)
    with world(options.device) as here:
        if here.rank == 0:
            print(f"{len(pictures)} pictures to train on, {len(validation)} to validate")
        try:
            run(
                recipe,
                pictures.pixels,
                validation.pixels,
                options.out,
                here,
                resume=options.resume,
                compiled=options.compile if options.compile is not None else here.device.type == "cuda",
                bf16=options.bf16 if options.bf16 is not None else has_bf16(here.device),
            )
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return 130
        except Diverged as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def fit_prior(options: argparse.Namespace) -> int:
    """Fit the density that samples are drawn from."""
    from model_training import prior
    from model_training.torch_codec import TorchCodec

    codec = TorchCodec(options.run_folder)
    pictures, validation = data.load_split(options.data, options.val, codec.width, codec.height, CACHE)
    mixture = prior.fit(
        prior.latent_draws(codec, pictures.pixels, seed=0),
        prior.latent_draws(codec, validation.pixels, seed=1),
    )
    prior.save(mixture, options.run_folder / prior.PRIOR)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a model folder for the service."""
    from model_training.evaluate import evaluate as measure
    from model_training.export import export as run
    from model_training.torch_codec import TorchCodec

    target: Path = options.out
    if not target.name.isdigit():
        raise ValueError(f"--out is models/NAME/VERSION with a whole number for the version, not {target}")
    codec = TorchCodec(options.run_folder)
    pixels = data.load(options.data, codec.width, codec.height, CACHE).pixels
    manifest = run(
        options.run_folder,
        target,
        name=target.parent.name,
        version=int(target.name),
        pictures=pixels,
        data={"trained_on": options.trained_on},
        metrics=measure(codec, pixels),
    )
    print(json.dumps({"parity": vars(manifest.parity), "metrics": manifest.metrics}, indent=2))
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Measure a training run or an exported model folder."""
    from model_training.codec import open_codec
    from model_training.evaluate import evaluate as measure

    codec = open_codec(options.model)
    print(
        json.dumps(measure(codec, data.load(options.data, codec.width, codec.height, CACHE).pixels), indent=2)
    )
    return 0


def plot(options: argparse.Namespace) -> int:
    """Draw the loss curve, reconstructions, samples and interpolations."""
    from app.latents import read_prior
    from model_training import plots
    from model_training.codec import open_codec

    codec = open_codec(options.model)
    pixels = data.load(options.data, codec.width, codec.height, CACHE).pixels
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    plots.reconstructions(codec, pixels, out / "reconstructions.png", originals=options.originals)
    plots.samples(codec, None, out / "samples-standard.png")
    if (options.model / "prior.npz").is_file():
        prior = read_prior((options.model / "prior.npz").read_bytes(), codec.latent_dim)
        plots.samples(codec, prior, out / "samples-fitted.png")
    plots.interpolations(codec, pixels, out / "interpolations.png")
    if (options.model / "metrics.jsonl").is_file():
        plots.loss_curve(options.model / "metrics.jsonl", out / "loss.png")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_training")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pictures = f"folder of pictures, or {data.SYNTHETIC!r} for drawn cars"

    command = commands.add_parser("train", help=train.__doc__)
    command.add_argument(
        "--recipe", default="seed", help="name in model_training/recipes or path of a .toml file"
    )
    command.add_argument("--data", required=True, help=pictures)
    command.add_argument("--val", help="pictures to validate on; without it a tenth of --data is held out")
    command.add_argument("--out", required=True, type=Path, help="folder of the run")
    command.add_argument("--epochs", type=int, help="train this many instead of the recipe's")
    command.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    command.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="torch.compile; default: on a GPU"
    )
    command.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="bfloat16 products; default: where the hardware has them",
    )
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    command.set_defaults(run=train)

    command = commands.add_parser("fit-prior", help=fit_prior.__doc__)
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training run")
    command.add_argument("--data", required=True, help=f"the training pictures: {pictures}")
    command.add_argument("--val", help="pictures to choose by; without it a tenth of --data is held out")
    command.set_defaults(run=fit_prior)

    command = commands.add_parser("export", help=export.__doc__)
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training run")
    command.add_argument("--out", required=True, type=Path, help="models/NAME/VERSION")
    command.add_argument(
        "--data", default=data.SYNTHETIC, help=f"pictures to check and measure on: {pictures}"
    )
    command.add_argument(
        "--trained-on", default="unknown", help="the training data and its terms, for the manifest"
    )
    command.set_defaults(run=export)

    for run, text in ((evaluate, evaluate.__doc__), (plot, plot.__doc__)):
        command = commands.add_parser(run.__name__, help=text)
        command.add_argument("model", type=Path, help="exported model folder, or folder of a training run")
        command.add_argument("--data", required=True, help=pictures)
        command.set_defaults(run=run)
    command.add_argument("--out", required=True, type=Path, help="folder for the pictures")
    command.add_argument(
        "--originals", action=argparse.BooleanOptionalAction, default=True, help="show the originals too"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
