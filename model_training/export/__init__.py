"""Export of a run to a model folder: ONNX graphs, checked against PyTorch and quantised."""
