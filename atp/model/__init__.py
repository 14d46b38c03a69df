"""All that touches TransformerLens, SAELens, transformers and the hub."""
