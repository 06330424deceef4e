"""The commands of training: python -m model_training COMMAND --help."""

import argparse
import logging
import sys
from pathlib import Path

CACHE = Path.home() / ".cache" / "car-vae"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return int(options.run(options) or 0)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def train(options: argparse.Namespace) -> int:
    from model_training import data
    from model_training.config import Recipe
    from model_training.distributed import world
    from model_training.train import Diverged, Interrupted
    from model_training.train import train as run

    recipe = Recipe.load(options.recipe)
    if options.epochs is not None:
        recipe = recipe.with_epochs(options.epochs)
    pictures, validation = data.load_split(
        options.data, options.val, recipe.model.width, recipe.model.height, CACHE
    )
    print(f"{len(pictures)} pictures to train on, {len(validation)} to validate")
    with world(options.device) as here:
        compiled = options.compile if options.compile is not None else here.device.type == "cuda"
        try:
            run(recipe, pictures.pixels, validation.pixels, options.out, here, resume=options.resume, compiled=compiled)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return 130
        except Diverged as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a recipe on a folder of pictures")
    command.add_argument("--recipe", default="seed", help="name in model_training/recipes or path of a .toml file")
    command.add_argument("--data", required=True, help="folder of pictures, or 'synthetic' for drawn cars")
    command.add_argument("--val", help="folder of pictures to validate on; without it a tenth of --data is held out")
    command.add_argument("--out", required=True, type=Path, help="folder of the run")
    command.add_argument("--epochs", type=int, help="train this many instead of the recipe's")
    command.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    command.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile; default: on a GPU")
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    command.set_defaults(run=train)
    return parser


if __name__ == "__main__":
    sys.exit(main())
