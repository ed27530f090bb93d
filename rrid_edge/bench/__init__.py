"""The benchmark: speed, memory and accuracy of models on this machine."""
