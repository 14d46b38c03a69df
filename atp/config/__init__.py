"""What a command is asked for: options, their checks and defaults. No tensors, no files."""
