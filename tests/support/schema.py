"""The fields of the result file, in the order in which README.md shows them."""

ANALYSIS_FIELDS = [
    "target_token",
    "base_token",
    "token_position",
    "logit_diff",
    "boundary",
    "target_token_id",
    "base_token_id",
    "diagnostics",
    "top_features",
]
FEATURE_FIELDS = ["id", "score", "activation", "gradient"]
