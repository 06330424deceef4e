from pathlib import Path

import pytest
import torch

from model_training import checkpoint


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = {"weights": torch.arange(5.0), "epoch": 3, "nested": {"name": "seed", "values": [1, 2]}}
    checkpoint.save(tmp_path / "deep" / "c.pt", state)
    loaded = checkpoint.load(tmp_path / "deep" / "c.pt")
    torch.testing.assert_close(loaded.pop("weights"), state.pop("weights"))
    assert loaded == state
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c.pt"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(tmp_path / "c.pt", {"epoch": 2, "bad": lambda: None})
    assert checkpoint.load(tmp_path / "c.pt") == {"epoch": 1}


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint .*c\.pt"):
        checkpoint.load(tmp_path / "c.pt")
    (tmp_path / "c.pt").write_bytes(b"PK\x03\x04 but not really")
    with pytest.raises(ValueError, match=r"c\.pt is not a readable checkpoint"):
        checkpoint.load(tmp_path / "c.pt")
