"""The README's tree of the code, held against the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def tree() -> list[str]:
    """The paths that the README's tree names, folders with a slash at the end."""
    block = re.search(r"```\n(app/ .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    paths: list[str] = []
    top = ""
    for line in block[1].splitlines():
        entry = re.match(r"( ?(?:  )?)([\w.]+/?)  ", line)
        if entry is None:
            continue
        inner, name = entry.groups()
        if not inner:
            top = name
        paths.append(top + name if inner else name)
    return paths


def test_every_path_of_the_tree_exists_once() -> None:
    assert [path for path in tree() if not (ROOT / path).exists()] == []
    assert len(set(tree())) == len(tree())


@pytest.mark.parametrize("package", ["app", "model_training"])
def test_every_module_and_room_of_a_package_has_a_line(package: str) -> None:
    there = {
        f"{package}/{path.name}" + ("/" if path.is_dir() else "")
        for path in (ROOT / package).iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert there == {path for path in tree() if path.startswith(f"{package}/")} - {f"{package}/"}


@pytest.mark.parametrize("package", ["app", "model_training"])
def test_every_module_begins_by_saying_what_it_is(package: str) -> None:
    for module in (ROOT / package).rglob("*.py"):
        assert re.match(r'"""[A-Z`].*\w', module.read_text()), module


@pytest.mark.parametrize("package", ["app", "model_training", "tests"])
def test_no_module_and_no_room_is_too_large_to_be_taken_in_at_a_glance(package: str) -> None:
    modules = list((ROOT / package).rglob("*.py"))
    assert [module.name for module in modules if len(module.read_text().splitlines()) > 450] == []
    rooms = {module.parent for module in modules}
    assert [room for room in rooms if len(list(room.glob("[!_]*.py"))) > 14] == []
