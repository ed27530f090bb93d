"""A gallery in a Milvus collection."""
