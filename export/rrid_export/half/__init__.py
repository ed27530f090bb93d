"""float16 files of adopted networks, made from their float32 files without PyTorch."""
