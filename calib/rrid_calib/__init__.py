"""Calibration: INT8 models with explicit Q/DQ nodes, made from training crops (extra ``calib``)."""
