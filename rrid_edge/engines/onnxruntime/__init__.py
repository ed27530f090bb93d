"""Engines on ONNX Runtime: CPU and CUDA."""
