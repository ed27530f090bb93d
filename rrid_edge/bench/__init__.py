"""The benchmark: what this package does on this machine, with accuracy beside speed."""
