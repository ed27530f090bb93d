"""``rrid-edge serve``."""
