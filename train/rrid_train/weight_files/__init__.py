"""Reading weight files of any program without running anything in them.

No pickle module reads these files. ``pickles`` interprets the instructions of a pickle itself, and its table of calls
(``calls``) builds nothing but tensors, arrays and plain values. ``zip_archive`` and ``older`` read the containers,
``safetensors_file`` reads safetensors, and ``choosing`` finds the network's tensors in what was read.
"""
