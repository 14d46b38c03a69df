"""Print the features that matter most over all scored pairs of a result, with how sure that is.

    python examples/strongest_features.py RESULT [COUNT]

`atp features` writes the same numbers of all features to files; docs/features.md explains them.
"""

import sys

from atp import select_features
from atp.errors import AtpError

COUNT = 10


def main(path: str, count: int) -> None:
    """Print a table of the `count` features of largest |mean score| of each SAE."""
    found = select_features(path, min_log_ratio=None)
    for sae in found.saes:
        over_all = sae.table[sae.table["group"] == "all"]
        strongest = over_all.sort_values("mean_score", key=abs, ascending=False, kind="stable")

        questions = sae.groups[0].questions
        print(f"{sae.pairs} scored pairs of {questions} questions; {sae.sae['hook_name']}")
        print(
            f"{'feature':>8}  {'mean score':>10}  {'95 % interval':^18}  {'in pairs':>8}  same sign"
        )
        for row in strongest.head(count).itertuples():
            interval = f"{row.mean_score_low:+.4f} to {row.mean_score_high:+.4f}"
            listed = round(row.frequency * row.pairs)
            print(
                f"{row.feature:>8}  {row.mean_score:>+10.4f}  {interval:>18}  {listed:>8}"
                f"  {row.sign_consistency:>9.0%}"
            )


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else COUNT)
    except AtpError as error:
        sys.exit(str(error))
