"""The engines of a run: who scores its tasks, this process or the workers of a Ray cluster."""
