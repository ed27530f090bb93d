"""Build TensorRT engines from an exported ONNX file: parse, configure, build, prove the precision."""
