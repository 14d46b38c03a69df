"""The command line: argv and environment in, a command out."""
