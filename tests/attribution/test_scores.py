"""Scores of a dictionary small enough to reckon by hand, and the order of the top features."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import SAE

from atp.attribution.scores import Lengths, score, top_features


def by_hand() -> SAE[object]:
    """Two features in a plane: f1 = relu(x1 - 1) read along (1, 0), f2 = relu(x2) along (1, 2)."""
    sae = SAE.from_dict(
        {"architecture": "standard", "d_in": 2, "d_sae": 2, "apply_b_dec_to_input": False}
    )
    sae.load_state_dict(
        {
            "W_enc": torch.eye(2),
            "b_enc": torch.tensor([-1.0, 0.0]),
            "W_dec": torch.tensor([[1.0, 0.0], [1.0, 2.0]]),
            "b_dec": torch.tensor([0.5, 0.0]),
        }
    )
    return sae


def test_scores_are_what_a_pencil_gives() -> None:
    # x = (3, 1): f = (2, 1); decode = 2*(1,0) + 1*(1,2) + (0.5,0) = (3.5, 2); error = (-0.5, -1).
    # g = (2, -1): dm/df = (g.d1, g.d2) = (2, 2-2) = (2, 0).
    lengths = Lengths(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 17**0.5]))
    scores = score(by_hand(), torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, -1.0]]), lengths)
    # |(1, 2) (2, 0)| and |(1, 2) (1, 2)| over |(1, 2) (3, 1)|.
    assert scores.relative_size.tolist() == [pytest.approx([2 / 13**0.5, (17 / 13) ** 0.5])]
    assert scores.activations.tolist() == [[2.0, 1.0]]
    assert scores.gradients.tolist() == [[2.0, 0.0]]
    assert scores.scores.tolist() == [[4.0, 0.0]]
    assert scores.n_active.tolist() == [2]
    # x.g = 6 - 1 = 5 = features 4 + bias 0.5*2 = 1 + error (-0.5*2 + -1*-1) = 0
    assert scores.features.tolist() == [4.0]
    assert scores.bias.tolist() == [1.0]
    assert scores.sae_error.tolist() == [0.0]
    assert scores.identity_gap.tolist() == [0.0]
    # 1 - |error|^2 / |x - (0.5, 0)|^2 = 1 - 1.25 / 7.25
    assert scores.variance_explained.tolist() == [pytest.approx(24 / 29)]


def test_a_negative_zero_is_written_as_zero() -> None:
    lengths = Lengths(torch.ones(2), torch.ones(2))
    scores = score(by_hand(), torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]]), lengths)
    assert not torch.signbit(scores.scores[0, 0])


def test_the_largest_scores_come_first_and_ties_go_by_id() -> None:
    table = torch.tensor([[0.0, -3.0, 1.0, 3.0, 0.0, 0.0]])
    assert top_features(table, 5).tolist() == [[1, 3, 2, 0, 4]]
    assert top_features(table, 50).tolist() == [[1, 3, 2, 0, 4, 5]]


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=40).map(lambda row: [float(i) for i in row]),
    st.integers(1, 45),
)
def test_top_features_are_a_sort_by_size_then_id(row: list[float], k: int) -> None:
    expected = sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))[:k]
    assert top_features(torch.tensor([row]), k).tolist() == [expected]
