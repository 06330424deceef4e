import ast
from pathlib import Path

import pytest

import model_training
from model_training import run_folder

NAMES = {value for name, value in vars(run_folder).items() if name.isupper()}
MODULES = sorted(Path(model_training.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_other_module_spells_the_name_of_a_file_of_a_run(path: Path) -> None:
    literals = {
        node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
    }
    if path.stem != "run_folder":
        assert not literals & NAMES


def test_names_are_distinct() -> None:
    assert len(NAMES) == sum(name.isupper() for name in vars(run_folder))
