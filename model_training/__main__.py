"""The commands of training: python -m model_training COMMAND --help.

Each imports what it needs when it runs: `evaluate` and `plot` work on an exported model folder without torch.
"""

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path

import numpy as np

from app.images.arrays import ImageArray
from app.images.decode import configure_pillow
from model_training.backends.base import Backend
from model_training.compression.rate_distortion import LatentPoint
from model_training.data.dataset import MAX_PIXELS, SYNTHETIC, load, load_split
from model_training.run_folder import COMPRESSOR, PRIOR

CACHE = Path.home() / ".cache" / "car-vae"

FEATURES = Path("models/car-features/1/features.onnx")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    configure_pillow()
    try:
        status: int = options.run(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def train(options: argparse.Namespace) -> int:
    """Train a recipe on a folder of pictures."""
    from model_training.distributed import world
    from model_training.recipe import Recipe
    from model_training.torch_utils import has_bf16
    from model_training.train import Diverged, Interrupted
    from model_training.train import train as run

    recipe = Recipe.load(options.recipe)
    if options.epochs is not None:
        recipe = recipe.with_epochs(options.epochs)
    size = recipe.model.width, recipe.model.height
    pictures, validation = load_split(options.data, options.val, *size, CACHE)
    with world(options.device) as here:
        if here.rank == 0:
            print(f"{len(pictures)} pictures to train on, {len(validation)} to validate")
        try:
            run(
                recipe,
                pictures.images,
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


def fit_prior(options: argparse.Namespace) -> int:
    """Fit the density that samples are drawn from."""
    from model_training.backends.torch_backend import TorchBackend
    from model_training.prior import fit

    backend = TorchBackend(options.run_folder)
    pictures, validation = load_split(options.data, options.val, backend.width, backend.height, CACHE)
    fitted = fit.fit(backend, pictures.images, validation.images, options.steps)
    fit.save(*fitted, options.run_folder / PRIOR)
    return 0


def sharpen(options: argparse.Namespace) -> int:
    """Train a run's decoder on against a discriminator; the latents stay as they are."""
    from model_training.adversarial import fine_tune as run
    from model_training.recipe import Recipe

    recipe = Recipe.load(options.recipe)
    size = recipe.model.width, recipe.model.height
    pictures, validation = load_split(options.data, options.val, *size, CACHE)
    pixels = pictures.images, validation.images
    print(json.dumps(run(options.run_folder, options.out, recipe, *pixels, resume=options.resume), indent=2))
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a model folder for the service."""
    from model_training.backends.torch_backend import TorchBackend
    from model_training.evaluation.reconstructions import evaluate_reconstructions
    from model_training.export.model_folder import export_run

    target: Path = options.out
    if not target.name.isdigit():
        raise ValueError(f"--out is models/NAME/VERSION with a whole number for the version, not {target}")
    backend = TorchBackend(options.run_folder)
    pixels = load(options.data, backend.width, backend.height, CACHE).images
    figures = evaluate_reconstructions(backend, pixels)
    if options.train_data is not None:
        training = load(options.train_data, backend.width, backend.height, CACHE).images
        figures |= _sample_figures(options.run_folder, backend, pixels, training, options.features)
    manifest = export_run(
        options.run_folder,
        target,
        name=target.parent.name,
        version=int(target.name),
        images=pixels,
        data={"trained_on": options.trained_on},
        metrics=figures,
    )
    print(json.dumps({"parity": vars(manifest.parity), "metrics": manifest.metrics}, indent=2))
    return 0


def fit_features(options: argparse.Namespace) -> int:
    """Train the network whose features samples and photographs are compared by."""
    from model_training.evaluation import simclr

    recipe = simclr.FeatureRecipe.load(options.recipe or simclr.DEFAULT_RECIPE)
    size = recipe.width, recipe.height
    pixels = np.concatenate([load(source, *size, CACHE).images for source in options.data])
    validation = load(options.val, *size, CACHE).images
    network = simclr.fit(recipe, pixels)
    simclr.export_network(network, recipe, options.out)
    figures = {"pictures": len(pixels), "retrieval": simclr.retrieval_accuracy(network, validation)}
    print(json.dumps(figures, indent=2))
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Measure a training run or an exported model folder; with --train-data its samples and bytes too."""
    from model_training.backends.load import open_backend
    from model_training.evaluation.reconstructions import evaluate_reconstructions

    backend = open_backend(options.model)
    size = backend.width, backend.height
    pixels = load(options.data, *size, CACHE).images
    figures: dict[str, object] = {**evaluate_reconstructions(backend, pixels)}
    if options.train_data is not None:
        training = load(options.train_data, *size, CACHE).images
        figures |= _sample_figures(options.model, backend, pixels, training, options.features)
        searched, encoded = _compression_figures(backend, pixels, training)
        figures["compression"] = [dataclasses.asdict(point) for point in searched]
        figures["compression_unsearched"] = [dataclasses.asdict(point) for point in encoded]
    print(json.dumps(figures, indent=2))
    return 0


def _sample_figures(
    folder: Path, backend: Backend, pixels: ImageArray, training: ImageArray, features: Path
) -> dict[str, float]:
    """What samples of a run or of a model folder are worth."""
    from app.model.prior import read_prior
    from model_training.evaluation.feature_network import FeatureNetwork
    from model_training.evaluation.samples import evaluate_samples

    fitted = folder / "prior.npz"
    prior = read_prior(fitted.read_bytes(), backend.latent_dim) if fitted.is_file() else None
    return evaluate_samples(backend, prior, pixels, training, FeatureNetwork(features))


def _compression_figures(
    backend: Backend, pixels: ImageArray, training: ImageArray
) -> tuple[list[LatentPoint], list[LatentPoint]]:
    """Bytes and quality of latents as `compress` finds them, and of the encoder's own."""
    from app.codes.latent_search import search
    from model_training.compression.fit import training_statistics
    from model_training.compression.rate_distortion import QUANTISER_STEPS, rate_distortion

    statistics = training_statistics(backend, training)
    encoded, _ = backend.encode(pixels)
    searched = search(backend, statistics, pixels, encoded)
    return (
        rate_distortion(backend, statistics, pixels, searched, QUANTISER_STEPS),
        rate_distortion(backend, statistics, pixels, encoded, QUANTISER_STEPS),
    )


def fit_compressor(options: argparse.Namespace) -> int:
    """Fit what `compress` and `decompress` need beside the model."""
    from model_training.backends.load import open_backend
    from model_training.compression.fit import fit_compressor as run

    backend = open_backend(options.model)
    training = load(options.data, backend.width, backend.height, CACHE).images
    run(backend, training, options.step).save(options.model / COMPRESSOR)
    return 0


def compress(options: argparse.Namespace) -> int:
    """Turn a picture into a file of some hundred bytes."""
    from app.codes.compressor import Compressor
    from app.codes.latent_search import search
    from app.errors import ImageError
    from app.images.decode import read_image
    from model_training.backends.load import open_backend

    backend, compressor = open_backend(options.model), Compressor.load(options.model / COMPRESSOR)
    try:
        content = options.picture.read_bytes()
        pixels = np.stack([read_image(content, backend.width, backend.height, MAX_PIXELS)])
    except (OSError, ImageError) as error:
        raise ValueError(f"{options.picture}: {error}") from error
    mean, _ = backend.encode(pixels)
    compressed = compressor.compress(search(backend, compressor.statistics, pixels, mean)[0])
    options.out.write_bytes(compressed)
    print(f"{len(content):,} bytes -> {len(compressed):,} bytes")
    return 0


def decompress(options: argparse.Namespace) -> int:
    """Turn such a file back into a picture; the suffix of --out says which kind."""
    from PIL import Image

    from app.codes.compressor import Compressor
    from model_training.backends.load import open_backend

    backend, compressor = open_backend(options.model), Compressor.load(options.model / COMPRESSOR)
    try:
        latent = compressor.decompress(options.file.read_bytes())
        Image.fromarray(backend.decode(latent[np.newaxis])[0]).save(options.out)
    except (OSError, ValueError) as error:
        raise ValueError(f"{options.file} -> {options.out}: {error}") from error
    return 0


def plot(options: argparse.Namespace) -> int:
    """Draw the loss curve, reconstructions, samples, interpolations and the rate-distortion curve."""
    from app.model.prior import read_prior
    from model_training.backends.load import open_backend
    from model_training.compression.image_formats import FORMATS, Curve, format_curves
    from model_training.evaluation import plots

    backend = open_backend(options.model)
    pixels = load(options.data, backend.width, backend.height, CACHE).images
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    plots.plot_reconstructions(backend, pixels, out / "reconstructions.png", originals=options.originals)
    plots.plot_samples(backend, None, out / "samples-standard.png")
    if (options.model / "prior.npz").is_file():
        prior = read_prior((options.model / "prior.npz").read_bytes(), backend.latent_dim)
        plots.plot_samples(backend, prior, out / "samples-fitted.png")
    plots.plot_interpolations(backend, pixels, out / "interpolations.png")
    if options.train_data is not None:
        training = load(options.train_data, backend.width, backend.height, CACHE).images
        searched, encoded = _compression_figures(backend, pixels, training)
        name = "/".join(options.model.parts[-2:])
        ours = Curve(name, searched[::-1])
        others = [curve for kind in FORMATS for curve in format_curves(kind, pixels)]
        others.append(Curve(f"{name}, latents of the encoder", encoded[::-1]))
        plots.plot_rate_distortion(ours, others, out / "rate-distortion.png")
    if (options.model / "metrics.jsonl").is_file():
        plots.plot_loss(options.model / "metrics.jsonl", out / "loss.png")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_training")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pictures = f"folder of pictures, or {SYNTHETIC!r} for drawn cars"

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
    command.add_argument(
        "--steps", type=int, default=5_000, help="of the flow's training; default: %(default)s"
    )
    command.set_defaults(run=fit_prior)

    command = commands.add_parser("sharpen", help=sharpen.__doc__)
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a run with a fit.npz")
    command.add_argument("--recipe", default="best", help="what it was trained by; default: %(default)s")
    command.add_argument("--data", required=True, help=f"the pictures to look like: {pictures}")
    command.add_argument("--val", help="pictures to validate on; without it a tenth of --data is held out")
    command.add_argument("--out", required=True, type=Path, help="folder of the sharpened run")
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    command.set_defaults(run=sharpen)

    command = commands.add_parser("export", help=export.__doc__)
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training run")
    command.add_argument("--out", required=True, type=Path, help="models/NAME/VERSION")
    command.add_argument("--data", default=SYNTHETIC, help=f"pictures to check and measure on: {pictures}")
    command.add_argument(
        "--trained-on", default="unknown", help="the training data and its terms, for the manifest"
    )
    command.add_argument("--train-data", help="pictures it was trained on: measure the samples by them too")
    command.add_argument(
        "--features", default=FEATURES, type=Path, help="what fit-features wrote; default: %(default)s"
    )
    command.set_defaults(run=export)

    command = commands.add_parser("fit-features", help=fit_features.__doc__)
    command.add_argument("--data", required=True, nargs="+", help=f"the pictures to train on: {pictures}")
    command.add_argument("--val", required=True, help="pictures to try the network on")
    command.add_argument("--out", default=FEATURES, type=Path, help="the ONNX file; default: %(default)s")
    command.add_argument("--recipe", type=Path, help="a .toml file; default: the package's features.toml")
    command.set_defaults(run=fit_features)

    model = "exported model folder, or folder of a training run"
    command = commands.add_parser("evaluate", help=evaluate.__doc__)
    command.add_argument("model", type=Path, help=model)
    command.add_argument("--data", required=True, help=f"pictures the model has not seen: {pictures}")
    command.add_argument("--train-data", help="pictures it was trained on: measure samples and bytes by them")
    command.add_argument(
        "--features", default=FEATURES, type=Path, help="what fit-features wrote; default: %(default)s"
    )
    command.set_defaults(run=evaluate)

    command = commands.add_parser("fit-compressor", help=fit_compressor.__doc__)
    command.add_argument("model", type=Path, help=model)
    command.add_argument("--data", required=True, help=f"the training pictures: {pictures}")
    command.add_argument(
        "--step", type=float, default=8.0, help="a finer one keeps more in more bytes; default: %(default)s"
    )
    command.set_defaults(run=fit_compressor)

    command = commands.add_parser("compress", help=compress.__doc__)
    command.add_argument("model", type=Path, help=model)
    command.add_argument("picture", type=Path)
    command.add_argument("out", type=Path)
    command.set_defaults(run=compress)

    command = commands.add_parser("decompress", help=decompress.__doc__)
    command.add_argument("model", type=Path, help=model)
    command.add_argument("file", type=Path, help="what compress wrote with the same model")
    command.add_argument("out", type=Path)
    command.set_defaults(run=decompress)

    command = commands.add_parser("plot", help=plot.__doc__)
    command.add_argument("model", type=Path, help=model)
    command.add_argument("--data", required=True, help=pictures)
    command.add_argument("--train-data", help="pictures it was trained on: compare with JPEG, WebP and AVIF")
    command.set_defaults(run=plot)
    command.add_argument("--out", required=True, type=Path, help="folder for the pictures")
    command.add_argument(
        "--originals", action=argparse.BooleanOptionalAction, default=True, help="show the originals too"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
