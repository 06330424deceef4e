"""Codes: those of the served model are written in a process beside the service; all are read within it."""

from collections.abc import Callable, Sequence

import numpy as np

from app.codes.codec import CodeImage
from app.codes.content import CodeContent
from app.images.arrays import ImageArray
from app.images.other_formats.compare import FormatName
from app.inference.batcher import BatchObserver
from app.inference.coder import Coder, read_codec
from app.inference.decoder import Graphs
from app.inference.packer import Packer
from app.inference.packer_process import Original, PackedImage, PackerSpec
from app.inference.session import (
    CPU,
    SessionSpec,
    decoder_graph,
    encoder_graph,
    open_sessions,
    post_filter_graph,
    refiner_graph,
)
from app.model.interpolation import Fade
from app.model.latents import Latents
from app.model.manifest import ModelFolder
from app.timings import Timings


class CodeReader:
    """What reads the codes of one model. Nothing in it changes, so threads may share it."""

    def __init__(self, coder: Coder) -> None:
        """Read with a coder."""
        self._coder = coder

    def read(self, code: bytes) -> CodeContent:
        """What a code says. It takes up to 10 ms: see CodeCodec.unpack.

        Raises:
            DamagedCode, WrongModel.
        """
        return self._coder.codec.unpack(code)

    def latents(self, contents: Sequence[CodeContent]) -> Latents:
        """The latents (N, L) float32 of the first layers."""
        return np.stack([self._coder.codec.latent(content) for content in contents])

    def picture(self, content: CodeContent, decoded: ImageArray) -> CodeImage:
        """The image of a code; `decoded` is what the decoder makes of its latent. It takes 2 ms."""
        return self._coder.picture(content, decoded)

    def box(self, content: CodeContent) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what is no border in the image of a code."""
        return self._coder.codec.box(content)


class Codes(CodeReader):
    """Codes of the served model: what reads them, and the process that writes them."""

    def __init__(self, coder: Coder, packer: Packer) -> None:
        """Put them together."""
        super().__init__(coder)
        self._packer = packer

    @property
    def encodes(self) -> bool:
        """Whether what writes codes reads files and encodes; see Packer."""
        return self._packer.encodes

    def check_room(self) -> None:
        """Raises what Batcher.submit would raise for one image more."""
        self._packer.batcher.check_room()

    def start(self) -> None:
        """Start what writes codes; to be called on the event loop that serves."""
        self._packer.batcher.start()

    async def drain(self) -> None:
        """Refuse new work and finish what was accepted."""
        await self._packer.batcher.drain()

    def close(self) -> None:
        """Refuse new work, answer what is waiting with NotReady, and end the process."""
        self._packer.batcher.close()
        self._packer.close()

    async def pack(
        self,
        originals: Sequence[Original],
        budgets: Sequence[int],
        timings: Timings | None = None,
        *,
        others: Sequence[FormatName] = (),
    ) -> list[PackedImage]:
        """The codes of images; see Packer.pack."""
        return await self._packer.pack(originals, budgets, timings, others=others)


def faded(
    decoded: ImageArray, ends: Sequence[ImageArray], bases: ImageArray, fades: Sequence[Fade]
) -> ImageArray:
    """Frames between the images of codes.

    Args:
        decoded: (F, height, width, 3) uint8, the decoder's images along the path.
        ends: the image of each code, (height, width, 3) uint8.
        bases: (W, height, width, 3) uint8, what the decoder makes of each code's latent.
        fades: for each frame, how much of which code is seen.

    Returns:
        (F, height, width, 3) uint8: what a code adds to its latent's image goes out to the middle of the way
        and comes in from there, so that a frame on a code is its image.
    """
    frames = decoded.copy()
    for frame, fade in zip(frames, fades, strict=True):
        if fade.weight:
            added = ends[fade.waypoint].astype(np.float32) - bases[fade.waypoint]
            frame[:] = np.clip(np.rint(frame + fade.weight * added), 0, 255)
    return frames


def open_codes(
    folder: ModelFolder,
    graphs: Graphs,
    is_calm: Callable[[], bool],
    *,
    refines: bool,
    max_pixels: int,
    decode_timeout: float,
    max_queue_rows: int,
    queue_timeout: float,
    observer: BatchObserver,
) -> Codes | None:
    """The codes of a model; None where its folder has none.

    Args:
        graphs: what encoder and decoder are served on: what writes codes encodes on a CPU alone, as a GPU
            does it sooner.
        is_calm: see Packer.
        refines: whether it refines latents that it has encoded.
        max_pixels, decode_timeout: of a file; see PackerSpec.
        max_queue_rows: most images waiting to be packed.
        queue_timeout: seconds that they may wait.
        observer: is told of every run of `packer`.

    Raises:
        ModelFolderError.
    """
    manifest, files = folder.manifest, folder.manifest.codes
    codec = read_codec(folder)
    if codec is None or files is None:
        return None
    post_filter, session = None, None
    if files.filter is not None:
        post_filter = post_filter_graph(manifest, files.filter), folder.content(files.filter)
        # On a CPU whatever the model runs on: it is a millisecond's work on one image.
        (session,) = open_sessions(dict([post_filter]), SessionSpec("cpu", max_batch_rows=1))
    decoder = (
        decoder_graph(manifest, graphs.decoder),
        folder.content(manifest.files.graphs(graphs.decoder)[1]),
    )
    encoder, refiner = None, None
    if graphs.provider == CPU:
        file = manifest.files.graphs(graphs.encoder)[0]
        encoder = encoder_graph(manifest, graphs.encoder), folder.content(file)
        if refines and manifest.files.refiner is not None:
            file = manifest.files.refiner
            refiner = refiner_graph(manifest, file), folder.content(file)
    packer = Packer(
        PackerSpec(
            files.tag,
            folder.content(files.tables),
            decoder,
            post_filter,
            encoder,
            refiner,
            max_pixels,
            decode_timeout,
        ),
        is_calm,
        max_queue_rows=max_queue_rows,
        queue_timeout=queue_timeout,
        observer=observer,
    )
    return Codes(Coder(codec, session), packer)
