"""The list of code that no card has run, held against the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENTRY = re.compile(r"^\| `([\w/]+\.py)`: `(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)
ENTRIES = ENTRY.findall((ROOT / "docs" / "cuda.md").read_text())
NEEDS_A_CARD = re.compile(r"\bcuda\b|nccl|SyncBatchNorm|torch\.compile|pin_memory", re.IGNORECASE)


def functions(path: Path) -> dict[str, str]:
    """The functions and classes of a module, at any depth, with their source."""
    source = path.read_text()
    nodes = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return {node.name: ast.get_source_segment(source, node) or "" for node in nodes}


def test_there_are_entries() -> None:
    table = (ROOT / "docs" / "cuda.md").read_text().split("\n\n")[2]
    assert len(ENTRIES) == len(table.splitlines()) - 2 > 5, "a line of the table is not of its form"
    assert len({entry[:2] for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize(("path", "name"), [entry[:2] for entry in ENTRIES])
def test_each_points_at_code_that_exists(path: str, name: str) -> None:
    assert name in functions(ROOT / path)


def test_no_module_of_service_or_training_that_names_cuda_is_missing() -> None:
    listed = {ROOT / path for path, *_ in ENTRIES}
    # These only pass on a choice of device or describe one.
    passing = {"app/settings.py", "app/main.py", "app/errors.py", "model_training/__main__.py"}
    found = {
        path
        for package in ("app", "model_training")
        for path in (ROOT / package).rglob("*.py")
        if NEEDS_A_CARD.search(path.read_text()) and path.relative_to(ROOT).as_posix() not in passing
    }
    assert found <= listed, sorted(map(str, found - listed))


def test_the_steps_that_it_names_are_those_of_the_day() -> None:
    from tests.performance.gpu_day.__main__ import Day

    names = {step.name for step in Day("cuda", "cars.npz", Path("day"), "best", "seed", 100, 100, 3).steps()}
    text = (ROOT / "docs" / "cuda.md").read_text()
    named = set(
        re.findall(r"`(machine|(?:parity|train|finetune|prior|refiner|export|service)-[\w-]+)`", text)
    )
    assert named - {"machine"} <= names
    assert names == named
