"""Image files to descriptors: reading ahead, decoding, batches."""
