"""The model, running: the VAE, its batchers, its ONNX Runtime sessions."""
