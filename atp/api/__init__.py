"""The functions for notebooks, which run the same code as the commands; `atp` names them."""
