"""`atp saes`: the dictionaries that SAELens lists, by model."""
