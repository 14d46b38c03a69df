"""`atp report`: the results of a study as one page, with pictures, that needs no network."""
