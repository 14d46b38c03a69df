"""`atp merge`: the results of all shards of a run become the result of the whole run."""
