"""`atp intervene`: take selected features out of the model, and measure what that changes."""
