"""The notebook, executed against the service; it is kept without what it gives."""

import base64
from pathlib import Path
from typing import Any

import httpx
import nbclient
import nbformat
import numpy as np
import pytest

from tests.docs.conftest import EXAMPLES, Stage
from tests.images import array_of

NOTEBOOK = EXAMPLES / "latents.ipynb"


def notebook_of() -> Any:
    """The notebook as it is kept."""
    return nbformat.reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]


def test_it_is_kept_without_outputs() -> None:
    notebook = notebook_of()
    nbformat.validate(notebook)
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []
    assert {cell.execution_count for cell in notebook.cells if cell.cell_type == "code"} == {None}


def test_every_cell_runs_and_shows_what_the_service_decodes(
    stage: Stage, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAR_VAE_URL", stage.service)
    notebook = notebook_of()
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [array_of(base64.b64decode(data)) for data in images_in(outputs)]
    cars = np.load(tmp_path / "cars.npy")
    assert cars.shape == (64, 256)
    first = client.post("/decode?size=192", json={"latents": cars[:8].tolist()})
    np.testing.assert_array_equal(shown[0], array_of(first.content))
    assert len(shown) == 3
    text = "".join(output.get("text", "") for output in outputs)
    assert " dB, SSIM 0." in text


def images_in(outputs: list[Any]) -> list[str]:
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
