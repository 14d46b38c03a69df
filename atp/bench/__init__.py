"""`atp bench`: speed and memory against the notebook's procedure and a bare forward pass."""
