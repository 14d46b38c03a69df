"""`atp check`: all that can be known before a run, without running it."""
