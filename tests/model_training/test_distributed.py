import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from model_training import checkpoint
from model_training.distributed import SharedBatchNorm1d, SharedBatchNorm2d, World, share_batch_norm
from model_training.run_folder import LATEST, METRICS

ARGUMENTS = [
    *("-m", "model_training", "train", "--recipe", "RECIPE", "--data", "synthetic"),
    *("--epochs", "2", "--device", "cpu", "--no-bf16", "--out"),
]


CONVOLUTIONAL = """seed = 0
[model]
width = 16
height = 16
channels = [8, 16]
latent_dim = 4
[training]
epochs = 2
batch_size = 256
learning_rate = 1e-3
"""
PRINCIPAL = """seed = 0
[model]
architecture = "principal"
width = 16
height = 16
latent_dim = 4
hidden = 16
features = 4
channels = [8, 12]
[training]
epochs = 2
batch_size = 256
learning_rate = 1e-3
schedule = "cosine"
average = 0.9
augment = true
"""


@pytest.fixture(params=[CONVOLUTIONAL, PRINCIPAL], ids=["convolutional", "principal"])
def recipe_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(request.param)
    return path


def start(launcher: list[str], recipe: Path, out: Path) -> None:
    arguments = [str(recipe) if argument == "RECIPE" else argument for argument in ARGUMENTS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, *arguments, str(out)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_two_processes_train_as_one_with_the_same_global_batch(recipe_file: Path, tmp_path: Path) -> None:
    start([], recipe_file, tmp_path / "one")
    start(
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"], recipe_file, tmp_path / "two"
    )
    one, two = (
        [json.loads(line) for line in (tmp_path / name / METRICS).read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 2
    for mine, other in zip(one, two, strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-4)
    weights, others = (checkpoint.load(tmp_path / name / LATEST)["model"] for name in ("one", "two"))
    assert weights.keys() == others.keys()
    # One sum rounds otherwise than two; where gradients are next to nothing Adam makes whole steps of that,
    # and two epochs are 14 steps of 1e-3.
    for name, value in weights.items():
        assert torch.allclose(value, others[name], rtol=0.01, atol=2e-3), name


ENDING = """
from pathlib import Path
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from model_training.distributed import world

with world("cpu"):
    DistributedDataParallel(nn.Linear(2, 2))
print(*(thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lists threads as Linux does")
def test_the_group_leaves_no_threads_behind() -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--no-python", sys.executable, "-c", ENDING]
    done = subprocess.run([sys.executable, *launcher], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "python" in done.stdout
    assert "gloo" not in done.stdout


def test_each_process_gets_its_part_of_a_batch() -> None:
    batch = torch.arange(8)
    parts = [World(rank, 4, torch.device("cpu")).share(batch) for rank in range(4)]
    assert torch.cat(parts).tolist() == batch.tolist()
    assert {len(part) for part in parts} == {2}


def test_batch_norms_are_shared_in_place_and_keep_their_state() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)), nn.BatchNorm1d(4))
    before = network.state_dict()
    share_batch_norm(network)
    assert isinstance(network[1][0], SharedBatchNorm2d)  # type: ignore[index]
    assert isinstance(network[2], SharedBatchNorm1d)
    assert network.state_dict().keys() == before.keys()
