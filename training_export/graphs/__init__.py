"""The exported graph: the policy's network and its head, as model.pt and model.onnx."""
