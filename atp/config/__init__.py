"""The settings of a command: options, their checks and defaults. No tensors, no files."""
