"""Tensors in, tensors out: the numerics of attribution patching. No files, no settings."""
