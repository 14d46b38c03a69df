"""A batch of tokenised pairs becomes the content of `atp_analysis`."""
