"""One dictionary (an SAE): its name, its files, its weights."""
