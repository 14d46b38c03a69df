"""What the hub has of a model or an SAE, and how it gets into the hub cache."""
