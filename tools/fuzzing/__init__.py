"""The parts of ``tools/fuzz.py``: sound files, their damages, the checks, and the processes that run them."""
