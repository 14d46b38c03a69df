"""The vectors x and g of a run, in files from which `atp rescore` scores other dictionaries."""
