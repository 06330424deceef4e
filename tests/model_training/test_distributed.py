import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from model_training import checkpoint
from model_training.distributed import CpuSyncBatchNorm, World, sync_batch_norm
from model_training.run_folder import LATEST, METRICS

ARGUMENTS = [
    *("-m", "model_training", "train", "--recipe", "RECIPE", "--data", "synthetic"),
    *("--epochs", "2", "--device", "cpu", "--no-bf16", "--out"),
]


CONV_RECIPE = """seed = 0
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
PCA_RECIPE = """seed = 0
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


@pytest.fixture(params=[CONV_RECIPE, PCA_RECIPE], ids=["convolutional", "principal"])
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
    # One sum rounds otherwise than two, and each step starts from what the last one rounded.
    for mine, other, close in zip(one, two, (1e-4, 1e-3), strict=True):
        assert mine == pytest.approx(other, rel=close, abs=close)
    weights, others = (checkpoint.load(tmp_path / name / LATEST)["model"] for name in ("one", "two"))
    assert weights.keys() == others.keys()
    # Where gradients are next to nothing Adam makes whole steps of what was rounded: 14 of 1e-3 here.
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
    parts = [World(rank, 4, torch.device("cpu")).shard(batch) for rank in range(4)]
    assert torch.cat(parts).tolist() == batch.tolist()
    assert {len(part) for part in parts} == {2}


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)), nn.Flatten(), nn.BatchNorm1d(4)
    )


def test_each_batch_norm_is_replaced_and_keeps_its_parameters_and_statistics() -> None:
    model = network()
    before = model.state_dict()
    parameters = list(model.parameters())
    assert sync_batch_norm(model, World(0, 2, torch.device("cpu"))) is model
    assert isinstance(model[1][0], CpuSyncBatchNorm)  # type: ignore[index]
    assert isinstance(model[3], CpuSyncBatchNorm)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(after[name] is not None and torch.equal(after[name], before[name]) for name in before)
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))


def test_on_gpus_it_is_pytorchs_own_that_replaces_them() -> None:
    model = sync_batch_norm(network(), World(0, 2, torch.device("cuda")))
    assert [type(module) for module in model.modules() if "Norm" in type(module).__name__] == [
        nn.SyncBatchNorm,
        nn.SyncBatchNorm,
    ]


def test_a_replaced_batch_norm_is_evaluated_like_the_plain_one() -> None:
    torch.manual_seed(0)
    model, images = network(), torch.rand(6, 3, 1, 1)
    model(images)
    plain = model.eval()(images)
    torch.testing.assert_close(sync_batch_norm(model, World(0, 2, torch.device("cpu")))(images), plain)


def test_a_replaced_batch_norm_trains_like_the_plain_one_in_a_single_process(tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = torch.randn(6, 4, 3, 2)
    plain, norm = nn.BatchNorm2d(4), CpuSyncBatchNorm(nn.BatchNorm2d(4))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        inputs = [features.clone().requires_grad_() for _ in range(2)]
        outputs = [module(values) for module, values in zip((plain, norm), inputs, strict=True)]
        for output in outputs:
            output.square().sum().backward()
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, atol=1e-4, rtol=1e-4)
    for name, statistic in plain.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], statistic)
