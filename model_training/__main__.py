"""Commands: pack, train, finetune, fit-prior, fit-refiner, export, fit-features, evaluate, card and others.

Each imports what it needs when it runs: `evaluate` and `plot` work on an exported model folder without torch.
"""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.errors import ModelFolderError
from app.images.arrays import ImageArray
from app.images.decode import configure_pillow
from app.model.manifest import read_model_folder, write_manifest
from model_training.data.dataset import SYNTHETIC, load, load_split
from model_training.run_folder import METRICS, PRIOR, REFINER

CACHE = Path.home() / ".cache" / "car-vae"

FEATURES = Path("models/car-features/1/features.onnx")
SECOND_FEATURES = Path("models/car-features/2/features.onnx")

IMAGES = f"folder of images, FILE.npz of `pack`, or {SYNTHETIC!r} for drawn cars"
MODEL = "exported model folder, or folder of a training run"


def add_pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, nargs="+", help=f"the images to train on: {IMAGES}")
    parser.add_argument("--val", help="images to validate on; without it a tenth of --data is held out")
    parser.add_argument("--recipe", default="best", help="whose image size they get; default: %(default)s")
    parser.add_argument("--out", required=True, type=Path, help="FILE.npz")


def pack(options: argparse.Namespace) -> int:
    """Fit images to a recipe's size and write them to one file, which --data takes in place of a folder."""
    from model_training.data.packed import SUFFIX
    from model_training.data.packed import pack as write
    from model_training.data.split import concatenate, split
    from model_training.recipe import Recipe

    if options.out.suffix != SUFFIX:
        raise ValueError(f"--out ends in {SUFFIX}, not in {options.out.name!r}")
    model = Recipe.load(options.recipe).model
    size = model.width, model.height
    every = concatenate([load(source, *size, CACHE) for source in options.data])
    training, validation = split(every) if options.val is None else (every, load(options.val, *size, CACHE))
    write(training, validation, options.out)
    print(f"{len(training)} pictures to train on, {len(validation)} to validate -> {options.out}")
    return 0


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe", default="seed", help="name in model_training/recipes or path of a .toml file"
    )
    parser.add_argument("--data", required=True, help=IMAGES)
    parser.add_argument("--val", help="images to validate on; without it a tenth of --data is held out")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument("--epochs", type=int, help="train this many instead of the recipe's")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="torch.compile; default: on a GPU"
    )
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="bfloat16 products; default: where the hardware has them",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")


def train(options: argparse.Namespace) -> int:
    """Train a recipe on a folder of images."""
    from model_training.distributed import world
    from model_training.recipe import Recipe
    from model_training.torch_utils import has_bf16
    from model_training.train import Diverged, Interrupted
    from model_training.train import train as run

    recipe = Recipe.load(options.recipe)
    if options.epochs is not None:
        recipe = recipe.with_epochs(options.epochs)
    size = recipe.model.width, recipe.model.height
    training, validation = load_split(options.data, options.val, *size, CACHE)
    with world(options.device) as here:
        if here.rank == 0:
            print(f"{len(training)} pictures to train on, {len(validation)} to validate")
        try:
            run(
                recipe,
                training.images,
                validation.images,
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


def add_fit_prior_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--data", required=True, help=f"the training images: {IMAGES}")
    parser.add_argument("--val", help="images to choose by; without it a tenth of --data is held out")
    parser.add_argument("--steps", type=int, help="of the flow's training instead of the recipe's")


def fit_prior(options: argparse.Namespace) -> int:
    """Fit the density that samples are drawn from."""
    from model_training.backends.torch_backend import TorchBackend
    from model_training.prior import fit

    backend = TorchBackend(options.run_folder)
    training, validation = load_split(options.data, options.val, backend.width, backend.height, CACHE)
    config = backend.recipe.prior
    if options.steps is not None:
        config = dataclasses.replace(config, steps=options.steps)
    fitted = fit.fit_prior(backend, training.images, validation.images, config)
    fit.save_prior(fitted, options.run_folder / PRIOR)
    return 0


def add_finetune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--recipe", default="best", help="what it was trained by; default: %(default)s")
    parser.add_argument("--data", required=True, help=f"the training images: {IMAGES}")
    parser.add_argument("--val", help="images to validate on; without it a tenth of --data is held out")
    parser.add_argument("--out", required=True, type=Path, help="folder of the fine-tuned run")
    parser.add_argument("--steps", type=int, help="make this many instead of the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")


def finetune(options: argparse.Namespace) -> int:
    """Train a run on with a feature loss and refined latents: a sharper decoder."""
    from model_training.finetuning import finetune as run
    from model_training.recipe import Recipe

    recipe = Recipe.load(options.recipe).with_finetuning_steps(options.steps)
    size = recipe.model.width, recipe.model.height
    training, validation = load_split(options.data, options.val, *size, CACHE)
    images = training.images, validation.images
    print(json.dumps(run(options.run_folder, options.out, recipe, *images, resume=options.resume), indent=2))
    return 0


def add_fit_refiner_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--data", required=True, help=f"the training images: {IMAGES}")


def fit_refiner(options: argparse.Namespace) -> int:
    """Fit what `export` needs for a graph that refines latents."""
    from model_training.backends.torch_backend import TorchBackend
    from model_training.refinement import fit

    backend = TorchBackend(options.run_folder)
    training = load(options.data, backend.width, backend.height, CACHE).images
    latents, _ = backend.encode(training)
    statistics = fit.fit_refiner(fit.folded_decoder(backend.model), latents)
    fit.save_refiner(statistics, options.run_folder / REFINER)
    return 0


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--out", required=True, type=Path, help="models/NAME/VERSION")
    parser.add_argument("--data", default=SYNTHETIC, help=f"images to check and measure on: {IMAGES}")
    parser.add_argument(
        "--trained-on", default="unknown", help="the training data and its terms, for the manifest"
    )
    parser.add_argument("--train-data", help="images it was trained on: measure the samples by them too")
    _add_features_argument(parser)


def export(options: argparse.Namespace) -> int:
    """Write a model folder for the service."""
    from model_training.backends.torch_backend import TorchBackend
    from model_training.evaluation.model_figures import sample_figures
    from model_training.evaluation.reconstructions import evaluate_reconstructions
    from model_training.export.model_folder import export_run

    target: Path = options.out
    if not target.name.isdigit():
        raise ValueError(f"--out is models/NAME/VERSION with a whole number for the version, not {target}")
    backend = TorchBackend(options.run_folder)
    images = load(options.data, backend.width, backend.height, CACHE).images
    figures = evaluate_reconstructions(backend, images)
    if options.train_data is not None:
        training = load(options.train_data, backend.width, backend.height, CACHE).images
        figures |= sample_figures(options.run_folder, backend, images, training, options.features)
    manifest = export_run(
        options.run_folder,
        target,
        name=target.parent.name,
        version=int(target.name),
        images=images,
        data={"trained_on": options.trained_on},
        metrics=figures,
    )
    print(json.dumps({"parity": vars(manifest.parity), "metrics": manifest.metrics}, indent=2))
    return 0


def add_fit_features_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, nargs="+", help=f"the images to train on: {IMAGES}")
    parser.add_argument("--val", required=True, help="images to try the network on")
    parser.add_argument("--out", default=FEATURES, type=Path, help="the ONNX file; default: %(default)s")
    parser.add_argument("--recipe", type=Path, help="a .toml file; default: the package's features.toml")


def fit_features(options: argparse.Namespace) -> int:
    """Train the network whose features samples and photographs are compared by."""
    from model_training.evaluation import simclr

    recipe = simclr.FeatureRecipe.load(options.recipe or simclr.DEFAULT_RECIPE)
    size = recipe.width, recipe.height
    images = np.concatenate([load(source, *size, CACHE).images for source in options.data])
    validation = load(options.val, *size, CACHE).images
    network = simclr.fit(recipe, images)
    simclr.export_network(network, recipe, options.out)
    figures = {"pictures": len(images), "retrieval": simclr.retrieval_accuracy(network, validation)}
    print(json.dumps(figures, indent=2))
    return 0


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help=MODEL)
    parser.add_argument("--data", required=True, help=f"images the model has not seen: {IMAGES}")
    parser.add_argument("--train-data", help="images it was trained on: measure samples by them")
    parser.add_argument("--save", action="store_true", help="put the figures into the folder's model.json")
    _add_features_argument(parser)


def evaluate(options: argparse.Namespace) -> int:
    """Measure a training run or an exported model folder; with --train-data its samples too."""
    from model_training.backends.load import open_backend
    from model_training.evaluation.model_figures import sample_figures
    from model_training.evaluation.reconstructions import evaluate_reconstructions

    backend = open_backend(options.model)
    size = backend.width, backend.height
    images = load(options.data, *size, CACHE).images
    measured = evaluate_reconstructions(backend, images)
    if options.train_data is not None:
        training = load(options.train_data, *size, CACHE).images
        measured |= sample_figures(options.model, backend, images, training, options.features)
    if options.save:
        manifest = read_model_folder(options.model).manifest
        write_manifest(options.model, dataclasses.replace(manifest, metrics=manifest.metrics | measured))
    print(json.dumps(measured, indent=2))
    return 0


def add_card_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="exported model folder")
    parser.add_argument("--against", nargs="*", default=[], type=Path, help="model folders to stand beside")
    parser.add_argument("--data", help=f"draw the model's own reconstructions of these: {IMAGES}")


def card(options: argparse.Namespace) -> int:
    """Bring a model folder's README.md up to date: its head for machines, its figures from model.json."""
    from model_training.backends.onnx_backend import OnnxBackend
    from model_training.evaluation.card import RECONSTRUCTIONS, SHOWN, shown_rows, write_card
    from model_training.evaluation.plots import plot_rows

    if options.data is not None:
        backend = OnnxBackend(options.model)
        images = load(options.data, backend.width, backend.height, CACHE).images[:SHOWN]
        plot_rows(shown_rows(options.model, backend, images), options.model / RECONSTRUCTIONS)
    write_card(options.model, options.against)
    return 0


def add_fit_codes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="exported model folder")
    parser.add_argument("--data", required=True, help=f"the training images: {IMAGES}")
    parser.add_argument("--steps", type=int, help="of the post-filter's training instead of the usual ones")


def fit_codes(options: argparse.Namespace) -> int:
    """Fit what codes are written and read by, and record it in the folder's model.json."""
    from model_training.compression.post_filter import STEPS
    from model_training.compression.post_filter import fit_codes as fit

    size = read_model_folder(options.model).manifest.image_size
    images = load(options.data, size.width, size.height, CACHE).images
    files = fit(options.model, images, STEPS if options.steps is None else options.steps)
    print(json.dumps(dataclasses.asdict(files), indent=2))
    return 0


def add_fit_atlas_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="exported model folder")
    parser.add_argument("--data", required=True, help=f"the training images: {IMAGES}")
    parser.add_argument("--val", required=True, help="images of the same kind: the limit of what is a car")
    parser.add_argument("--more", help="other images with cars; half of them are learnt from, half measured")
    parser.add_argument("--others", help="images of other things, to count how many are told from cars")
    parser.add_argument("--steps", type=int, help="of the likeness's training instead of the usual ones")


def fit_atlas(options: argparse.Namespace) -> int:
    """Fit named directions, what a car looks like, and a map, and record them in the folder's model.json."""
    from model_training.atlas.fit import fit_atlas as fit
    from model_training.atlas.fit import share_of_cars
    from model_training.atlas.likeness import STEPS

    size = read_model_folder(options.model).manifest.image_size

    def images(source: str) -> ImageArray:
        return load(source, size.width, size.height, CACHE).images

    held_out = images(options.val)
    more = None if options.more is None else images(options.more)
    learnt = None if more is None else more[::2]
    steps = STEPS if options.steps is None else options.steps
    files, atlas = fit(options.model, images(options.data), held_out, learnt, steps)
    measured = {"val": held_out}
    if more is not None:
        measured["more"] = more[1::2]
    if options.others is not None:
        measured["others"] = images(options.others)
    shares = {name: share_of_cars(options.model, atlas, some) for name, some in measured.items()}
    print(json.dumps(dataclasses.asdict(files) | {"taken_for_cars": shares}, indent=2))
    return 0


def add_rate_distortion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="exported model folder with codes")
    parser.add_argument("--data", required=True, help=f"images the model has not seen: {IMAGES}")
    parser.add_argument("--out", required=True, type=Path, help="FILE.json, which plot --rates draws")


def rate_distortion(options: argparse.Namespace) -> int:
    """Measure bytes against quality: of codes, and of JPEG, WebP and AVIF."""
    from model_training.compression.image_formats import compare

    size = read_model_folder(options.model).manifest.image_size
    compare(options.model, load(options.data, size.width, size.height, CACHE).images).save(options.out)
    return 0


def add_plot_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help=MODEL)
    parser.add_argument("--data", required=True, help=IMAGES)
    parser.add_argument("--rates", type=Path, help="what rate-distortion wrote, to be drawn")
    parser.add_argument("--out", required=True, type=Path, help="folder for the plots")
    parser.add_argument(
        "--originals", action=argparse.BooleanOptionalAction, default=True, help="show the originals too"
    )


def plot(options: argparse.Namespace) -> int:
    """Draw the loss curve, reconstructions, samples, interpolations and the rate-distortion curve."""
    from model_training.backends.load import open_backend
    from model_training.compression.rate_distortion import Rates
    from model_training.evaluation import plots
    from model_training.evaluation.model_figures import fitted_prior

    backend = open_backend(options.model)
    images = load(options.data, backend.width, backend.height, CACHE).images
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    plots.plot_reconstructions(backend, images, out / "reconstructions.png", originals=options.originals)
    plots.plot_samples(backend, None, out / "samples-standard.png")
    prior = fitted_prior(options.model, backend)
    if prior is not None:
        plots.plot_samples(backend, prior, out / "samples-fitted.png")
    plots.plot_interpolations(backend, images, out / "interpolations.png")
    if options.rates is not None:
        ours, *others = Rates.load(options.rates).curves
        plots.plot_rate_distortion(ours, others, out / "rate-distortion.png")
    if (options.model / METRICS).is_file():
        plots.plot_loss(options.model / METRICS, out / "loss.png")
    return 0


def _add_features_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--features",
        default=[FEATURES, SECOND_FEATURES],
        type=Path,
        nargs="+",
        help="what fit-features wrote; a second file judges likeness again; default: both of the project's",
    )


class Command(NamedTuple):
    """A command: what it does, with its docstring for help, and what adds its arguments."""

    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None]


COMMANDS = {
    "pack": Command(pack, add_pack_arguments),
    "train": Command(train, add_train_arguments),
    "fit-prior": Command(fit_prior, add_fit_prior_arguments),
    "finetune": Command(finetune, add_finetune_arguments),
    "fit-refiner": Command(fit_refiner, add_fit_refiner_arguments),
    "export": Command(export, add_export_arguments),
    "fit-features": Command(fit_features, add_fit_features_arguments),
    "evaluate": Command(evaluate, add_evaluate_arguments),
    "card": Command(card, add_card_arguments),
    "fit-codes": Command(fit_codes, add_fit_codes_arguments),
    "fit-atlas": Command(fit_atlas, add_fit_atlas_arguments),
    "rate-distortion": Command(rate_distortion, add_rate_distortion_arguments),
    "plot": Command(plot, add_plot_arguments),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m model_training")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.run.__doc__)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    configure_pillow()
    try:
        status: int = options.run(options)
    except (ValueError, ModelFolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
