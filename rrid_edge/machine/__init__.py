"""The machine: processor, installed runtimes, timing."""
