"""Build hook of the package: puts the default model, and no other, into wheel and source distribution."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DefaultModel(BuildHookInterface):  # type: ignore[type-arg]
    """Adds models/NAME/VERSION, which is app/models/NAME/VERSION in a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; an editable install goes on using the checkout's models."""
        if version == "editable":
            return
        root = Path(self.root)
        model = "models/" + runpy.run_path(str(root / "app/model/default_model.py"))["DEFAULT_MODEL"]
        if not (root / model / "model.json").is_file():
            raise FileNotFoundError(f"{model} is not here, and the package is not whole without it")
        place = f"app/{model}" if self.target_name == "wheel" else model
        build_data["force_include"][str(root / model)] = place
