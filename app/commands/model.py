"""Model folder, opened for one thread: what turns image files into codes, and codes into images."""

from dataclasses import dataclass
from pathlib import Path

from app.codes.codec import CodeImage
from app.codes.tables import Floats
from app.commands.codec import open_codec
from app.errors import InferenceFailed
from app.images.arrays import ImageArray
from app.images.decode import configure_pillow, read_sized_image
from app.inference.coder import Coder, PackedCode
from app.inference.refiner import run_refiner
from app.inference.session import (
    GraphSpec,
    Session,
    SessionSpec,
    decoder_graph,
    encoder_graph,
    open_sessions,
    post_filter_graph,
    refiner_graph,
)
from app.model.manifest import Manifest, ModelFile, read_manifest, read_model_file

MAX_PIXELS = 200_000_000
"""Of an image file that the user named: nobody else chose it."""


@dataclass(frozen=True)
class Decompressor:
    """Makes images of codes."""

    coder: Coder
    decoder: Session

    def picture(self, code: bytes) -> CodeImage:
        """The image of a code.

        Raises:
            DamagedCode, WrongModel: see CodeCodec.unpack.
        """
        content = self.coder.codec.unpack(code)
        return self.coder.picture(content, self.decode(self.coder.codec.latent(content)))

    def decode(self, latent: Floats) -> ImageArray:
        """A latent (L,) float32 -> (height, width, 3) uint8."""
        (images,) = self.decoder.run(latent[None])
        image: ImageArray = images[0]
        return image


@dataclass(frozen=True)
class Compressor:
    """Makes codes of image files."""

    manifest: Manifest
    encoder: Session
    refiner: Session | None
    decompressor: Decompressor

    def compress(self, content: bytes, budget: int) -> PackedCode:
        """The code of an image file, of at most `budget` bytes.

        Raises:
            ImageError: it cannot be read.
            InferenceFailed: the model gives no code of it.
        """
        size = self.manifest.image_size
        image, shape = read_sized_image(content, size.width, size.height, MAX_PIXELS)
        latents, _ = self.encoder.run(image[None])
        if self.refiner is not None:
            latents = run_refiner(self.refiner, image[None], latents)
        decode = self.decompressor.decode
        try:
            (packed,) = self.decompressor.coder.pack(image, latents[0], shape, [budget], decode)
        except ValueError as error:
            raise InferenceFailed(str(error)) from error
        return packed


def open_compressor(folder: Path) -> Compressor:
    """Open what a model folder writes codes with.

    Raises:
        ModelFolderError: it is damaged, or has no codes.
    """
    configure_pillow()
    decompressor = open_decompressor(folder)
    manifest = read_manifest(folder)
    encoder, file = encoder_graph(manifest), manifest.files.refiner
    refiner = None if file is None else _open(folder, refiner_graph(manifest, file), file)
    return Compressor(manifest, _open(folder, encoder, manifest.files.encoder), refiner, decompressor)


def open_decompressor(folder: Path) -> Decompressor:
    """Open what a model folder reads codes with.

    Raises:
        ModelFolderError: it is damaged, or has no codes.
    """
    manifest = read_manifest(folder)
    codec = open_codec(folder, manifest)
    file = None if manifest.codes is None else manifest.codes.filter
    post_filter = None if file is None else _open(folder, post_filter_graph(manifest, file), file)
    return Decompressor(
        Coder(codec, post_filter), _open(folder, decoder_graph(manifest), manifest.files.decoder)
    )


def _open(folder: Path, graph: GraphSpec, file: ModelFile) -> Session:
    """A session for one image at a time, in float32 on the CPU, as figures are measured."""
    (session,) = open_sessions({graph: read_model_file(folder, file)}, SessionSpec("cpu", max_batch_rows=1))
    return session
