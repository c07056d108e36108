"""Networks on their way out: a .secateur file, an ONNX model, an nn.Module again."""
