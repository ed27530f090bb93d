"""Crops: decoding image files, parsing file names, listing folders."""
