"""The user's file: what goes in, what comes out, what survives a crash. Knows nothing of models."""
