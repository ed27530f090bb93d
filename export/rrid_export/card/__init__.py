"""Model cards: a ``README.md`` beside a model, which a person reads and the Hugging Face hub shows."""
