"""What a CUDA card does with the exported graphs, held against what it could do."""
