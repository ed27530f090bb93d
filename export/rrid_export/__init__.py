"""Export: the fused inference branch, ONNX files with their checks, and golden descriptors (extra ``export``)."""
