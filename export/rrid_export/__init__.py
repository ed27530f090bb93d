"""Export: the fused inference branch, checked ONNX files, golden descriptors, TensorRT engines (extra ``export``)."""
