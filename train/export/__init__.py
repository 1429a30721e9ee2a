"""Export of checkpoints to ONNX and TorchScript files, with a parity check."""
