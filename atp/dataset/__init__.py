"""The user's file and the results: reading, writing, and the journal between. Nothing of models."""
