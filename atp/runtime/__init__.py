"""What every command needs of its process: the log, signals, prefetching."""
