"""Data for training: the dataset layout, sampler, transforms and drawn demo pedestrians."""
