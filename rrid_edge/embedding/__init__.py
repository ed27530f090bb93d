"""From image files to descriptors: reading ahead, decoding, batching."""
