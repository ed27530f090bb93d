"""Calibration: int8 models with explicit Q/DQ nodes, calibrated on training crops (extra ``calib``)."""
