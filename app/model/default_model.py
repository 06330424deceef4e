"""Default model: which of models/ is served and packed where nothing else is said, and where it lies."""

from pathlib import Path
from typing import Final

DEFAULT_MODEL: Final = "car-vae/3"
"""Name and version; nothing else decides. hatch_build.py reads it too, by running this file by itself."""

_PACKAGE = Path(__file__).parent.parent


def default_model_dir() -> Path:
    """The folder of the default model: inside the installed package, else beside it in its checkout."""
    inside = _PACKAGE / "models" / DEFAULT_MODEL
    return inside if inside.is_dir() else _PACKAGE.parent / "models" / DEFAULT_MODEL
