"""Older models: those of which a service reads codes beside its own, each opened when it is first needed."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.codes.codec import CodeCodec
from app.errors import InferenceFailed, ModelFolderError
from app.inference.batcher import Batcher, BatchObserver
from app.inference.coder import Coder, read_codec
from app.inference.codes import CodeReader
from app.inference.decoder import Decoder, Graphs
from app.inference.session import SessionSpec, decoder_graph, open_sessions, post_filter_graph
from app.model.manifest import Manifest, ModelFolder, read_model_file, read_model_folder
from app.model.prior import read_prior

OLDER_DECODER = "older-decoder"
"""What the batchers of all of them are called."""
MOST_OPEN = 2
"""Most decoders in memory at once; the one that was not needed for the longest goes first."""

logger = logging.getLogger(__name__)


class OlderModel:
    """A model of which codes are read: what stands in its folder, and when it is needed what draws."""

    def __init__(self, folder: Path, tag: int, manifest: Manifest, codec: CodeCodec) -> None:
        """Know a model that is not in memory yet; `tag` is the first byte of its codes."""
        self.folder = folder
        self.tag = tag
        self.manifest = manifest
        self.codec = codec
        self.users = 0


@dataclass(frozen=True, eq=False)
class OpenModel:
    """An older model in memory: what draws latents, and what reads its codes."""

    decoder: Decoder
    reader: CodeReader
    batcher: Batcher


class OlderModels:
    """The models of some folders by the first byte of their codes.

    Their decoders run in float32 on the CPU, whatever the served model runs on.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        served: Manifest,
        *,
        threads: int,
        max_queue_rows: int,
        queue_timeout: float,
        observer: BatchObserver,
    ) -> None:
        """Check the folders and keep their codecs; for the limits see Batcher.

        Args:
            served: the model that the service has already.
            threads: of one run.
            observer: is told of every run of OLDER_DECODER.

        Raises:
            ModelFolderError: one is no model folder, has no codes, or has codes that another's cannot be told
                from.
        """
        self._spec = SessionSpec("cpu", threads=threads)
        self._max_queue_rows = max_queue_rows
        self._queue_timeout = queue_timeout
        self._observer = observer
        self._known: dict[int, OlderModel] = {}
        self._open: OrderedDict[int, OpenModel] = OrderedDict()
        self._door = asyncio.Lock()
        self._given_back = asyncio.Event()
        names = {} if served.codes is None else {served.codes.tag: served.id}
        for folder in folders:
            content = read_model_folder(folder)
            codec, files = read_codec(content), content.manifest.codes
            if codec is None or files is None:
                raise ModelFolderError(f"{folder} has no codes that could be read; leave it out")
            if files.tag in names:
                raise ModelFolderError(
                    f"{folder} is {content.manifest.id}, whose codes begin as those of {names[files.tag]}: "
                    "only one of them can be read"
                )
            names[files.tag] = content.manifest.id
            self._known[files.tag] = OlderModel(folder, files.tag, content.manifest, codec)

    @property
    def opened(self) -> dict[str, bool]:
        """Their ids, and whether each is in memory."""
        return {known.manifest.id: tag in self._open for tag, known in self._known.items()}

    @property
    def queued_rows(self) -> int:
        """Rows that wait for one of their decoders."""
        return sum(model.batcher.queued_rows for model in self._open.values())

    def find(self, tag: int) -> OlderModel | None:
        """The model whose codes begin with `tag`, if it is one of these."""
        return self._known.get(tag)

    async def borrow(self, model: OlderModel) -> OpenModel:
        """A model in memory, until it is given back.

        Raises:
            InferenceFailed: its folder has been altered, or taken away.
        """
        tag = model.tag
        async with self._door:
            if tag not in self._open:
                await self._make_room()
                self._open[tag] = await self._load(model)
            self._open.move_to_end(tag)
            model.users += 1
            return self._open[tag]

    def give_back(self, model: OlderModel) -> None:
        """What was borrowed is no longer needed."""
        model.users -= 1
        self._given_back.set()

    async def _make_room(self) -> None:
        while len(self._open) >= MOST_OPEN:
            idle = next((tag for tag in self._open if self._known[tag].users == 0), None)
            if idle is None:
                self._given_back.clear()
                await self._given_back.wait()
            else:
                logger.info("%s is closed", self._known[idle].manifest.id)
                self._open.pop(idle).batcher.close()

    async def _load(self, known: OlderModel) -> OpenModel:
        try:
            model = await asyncio.to_thread(self._read, known)
        except ModelFolderError as error:
            logger.error("%s cannot be opened: %s", known.manifest.id, error)
            raise InferenceFailed(f"{known.manifest.id} cannot be opened") from error
        model.batcher.start()
        logger.info("%s is open, to read its codes", known.manifest.id)
        return model

    def _read(self, known: OlderModel) -> OpenModel:
        manifest, files = known.manifest, known.manifest.files
        codes = manifest.codes
        assert codes is not None
        needed = [file for file in (files.decoder, files.prior, codes.filter) if file is not None]
        folder = ModelFolder(manifest, {file: read_model_file(known.folder, file) for file in needed})
        graphs = {decoder_graph(manifest): folder.content(files.decoder)}
        (session,) = open_sessions(graphs, self._spec)
        post_filter = None
        if codes.filter is not None:
            graph = post_filter_graph(manifest, codes.filter)
            one = SessionSpec("cpu", max_batch_rows=1)
            (post_filter,) = open_sessions({graph: folder.content(codes.filter)}, one)
        batcher = Batcher(
            OLDER_DECODER,
            session.run,
            max_batch_rows=session.max_batch_rows,
            max_queue_rows=self._max_queue_rows,
            queue_timeout=self._queue_timeout,
            observer=self._observer,
        )
        prior = None if files.prior is None else read_prior(folder.content(files.prior), manifest.latent_dim)
        decoder = Decoder(manifest, prior, batcher, Graphs(session.provider))
        reader = CodeReader(Coder(known.codec, post_filter))
        return OpenModel(decoder, reader, batcher)

    async def drain(self) -> None:
        """Refuse new work and finish what was accepted."""
        for model in list(self._open.values()):
            await model.batcher.drain()

    def close(self) -> None:
        """Refuse new work and answer what is waiting with NotReady."""
        for model in self._open.values():
            model.batcher.close()
