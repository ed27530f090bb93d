"""Bring a re-ID network of another program under the model contract. Needs no torch."""
