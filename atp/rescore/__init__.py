"""`atp rescore`: scores further dictionaries on the vectors of a run, without the model."""
