"""Triton through nvidia-pytriton: a model per endpoint, dynamic batching, several instances.

Bodies come and go as one BYTES tensor each, in raw binary requests, which spare Triton the wrapping in JSON.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from tests.performance.bench.peers import work

Answer = Callable[[work.Model, Sequence[Any]], list[bytes]]


def instance(parse: Callable[[bytes], Any], answer: Answer) -> Callable[..., Any]:
    """An instance of a model: an inference function with graphs of its own."""
    model = work.Model()

    def infer(body: Any) -> list[Any]:
        answers = answer(model, [parse(row[0]) for row in body])
        return [np.array([[text] for text in answers], dtype=object)]

    batched: Callable[..., Any] = batch(infer)
    return batched


def main() -> None:
    """Serve until the process is stopped."""
    endpoints: dict[str, tuple[Callable[[bytes], Any], Answer]] = {
        "encode": (work.files_in, work.encode_all),
        "decode": (work.latents_in, work.decode_all),
        "reconstruct": (work.files_in, work.reconstruct_all),
    }
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=work.PORT,
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=1000 * work.WAIT_MS)
    with Triton(config=config) as triton:
        for name, (parse, answer) in endpoints.items():
            triton.bind(
                model_name=name,
                infer_func=[instance(parse, answer) for _ in range(work.WORKERS)],
                inputs=[Tensor(name="body", dtype=bytes, shape=(1,))],
                outputs=[Tensor(name="answer", dtype=bytes, shape=(1,))],
                config=ModelConfig(max_batch_size=work.BATCH, batcher=batcher),
            )
        triton.serve()


if __name__ == "__main__":
    main()
