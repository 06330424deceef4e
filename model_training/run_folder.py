"""File names in the folder of a training run; those of an exported model are in its model.json."""

LATEST = "checkpoint.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
PRIOR = "prior.npz"
REFINER = "refiner.npz"
