"""`atp features`: over all scored pairs of some results, which features matter, and how surely."""
