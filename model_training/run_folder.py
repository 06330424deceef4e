"""File names in the folder of a training run."""

LATEST = "checkpoint.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"
PRIOR = "prior.npz"
COMPRESSOR = "compressor.npz"
