"""The services that every command uses: the log, signals, prefetching."""
