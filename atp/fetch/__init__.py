"""`atp fetch`: brings model and SAEs into the hub cache, so that a run needs no network."""
