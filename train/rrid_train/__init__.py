"""Training RRID: network, losses, data, loop and checkpoints (needs the extra ``train``)."""
