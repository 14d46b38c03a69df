"""`atp run`: one run, from its journal to its result files."""
