"""Embedding very many crops: tables of Parquet, folders and object stores, in this process or on a cluster."""
