"""Print the features of a result file that matter most over all its scored pairs.

    python examples/strongest_features.py RESULT [COUNT]

The mean runs over all scored pairs; a feature that a pair does not list counts as 0 there.
"""

import sys
from collections import defaultdict
from pathlib import Path

import orjson

COUNT = 10


def main(path: Path, count: int) -> None:
    """Print a table of the `count` features of largest |mean score|."""
    result = orjson.loads(path.read_bytes())
    analyses = [
        variation["atp_analysis"]
        for question in result["results"]
        for variation in question["variations"]
        if "top_features" in variation.get("atp_analysis", {})
    ]
    if not analyses:
        sys.exit(f"{path} holds no scored pair.")
    scores: dict[str, list[float]] = defaultdict(list)
    for analysis in analyses:
        for feature in analysis["top_features"]:
            if feature["score"]:
                scores[feature["id"]].append(feature["score"])
    means = {feature: sum(values) / len(analyses) for feature, values in scores.items()}
    strongest = sorted(means, key=lambda feature: (-abs(means[feature]), int(feature)))[:count]

    run = result["metadata"]["atp"]
    print(f"{len(analyses)} scored pairs of {run['counts']['pairs']}; {run['sae']['hook_name']}")
    print(f"{'feature':>8}  {'mean score':>10}  {'in pairs':>8}  {'positive':>8}")
    for feature in strongest:
        values = scores[feature]
        positive = sum(value > 0 for value in values) / len(values)
        print(f"{feature:>8}  {means[feature]:>+10.4f}  {len(values):>8}  {positive:>8.0%}")


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else COUNT)
