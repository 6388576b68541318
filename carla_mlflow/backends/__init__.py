"""How a graph is loaded and run: TorchScript, ONNX Runtime, and what either may contain."""
