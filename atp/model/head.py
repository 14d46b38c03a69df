"""The unembedding of chosen tokens instead of the whole vocabulary.

logit_t = cap(scale * (h . W_U[t] + b_U[t])), in float32, with h the final hidden state. The full
logits of a batch would be batch x sequence x vocabulary numbers, of which two a row are read; and
bfloat16 resolves a logit of 20 to about 0.1 only. Log-probabilities need all logits: they are
taken a part of the vocabulary at a time, on the way back, too. Because models differ in what they
do to their logits, `check_logits` compares with the model's own logits once, when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from atp.errors import UnavailableError

PROBE_LENGTH = 6
PART = 8192
"""Of the vocabulary, the rows of the unembedding that are brought to float32 at a time."""


@dataclass(frozen=True)
class TokenHead:
    """Rows of the unembedding, and what the model does to its logits."""

    weight: Float[Tensor, "vocabulary d_model"]
    """The model's own tensor."""
    bias: Float[Tensor, " vocabulary"] | None
    scale: float
    soft_cap: float | None

    @classmethod
    def of(cls, hf_model: Any) -> TokenHead:  # noqa: ANN401  (any Hugging Face causal model)
        """Read the head of a Hugging Face causal language model."""
        unembedding = hf_model.get_output_embeddings()
        config = hf_model.config.get_text_config()
        scale = float(getattr(config, "logit_scale", None) or 1.0)  # Cohere
        scale /= float(getattr(config, "logits_scaling", None) or 1.0)  # Granite
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        return cls(
            unembedding.weight,
            getattr(unembedding, "bias", None),
            scale,
            None if cap is None else float(cap),
        )

    def logits(
        self, hidden: Float[Tensor, "batch d_model"], tokens: Int[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n"]:
        """Return the logits of chosen tokens.

        Args:
            hidden: final hidden states.
            tokens: token ids.

        Returns:
            float32, whatever the model's dtype.
        """
        rows = self.weight[tokens].float()  # (batch, n, d_model)
        logits = torch.einsum("bd,bnd->bn", hidden.float(), rows)
        if self.bias is not None:
            logits = logits + self.bias[tokens].float()
        return self._finished(logits)

    def log_normalizer(self, hidden: Float[Tensor, "batch d_model"]) -> Float[Tensor, " batch"]:
        """Return log sum exp over the logits of the whole vocabulary.

        Args:
            hidden: final hidden states.

        Returns:
            float32, whatever the model's dtype.
        """
        parts = [
            checkpoint(self._part, hidden, start, use_reentrant=False, preserve_rng_state=False)
            for start in range(0, self.vocabulary, PART)
        ]
        return torch.stack(parts).logsumexp(dim=0)

    def _part(self, hidden: Float[Tensor, "batch d_model"], start: int) -> Float[Tensor, " batch"]:
        return self._logits_of(hidden, slice(start, start + PART)).logsumexp(dim=1)

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""
        return len(self.weight)

    def every_logit(self, hidden: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocabulary"]:
        """Return the logits of all tokens, float32: for a few positions at a time."""
        starts = range(0, self.vocabulary, PART)  # no float32 copy of all weights
        parts = [self._logits_of(hidden, slice(start, start + PART)) for start in starts]
        return torch.cat(parts, dim=1)

    def _logits_of(
        self, hidden: Float[Tensor, "n d_model"], part: slice
    ) -> Float[Tensor, "n part"]:
        logits = hidden.float() @ self.weight[part].float().T
        return self._finished(logits if self.bias is None else logits + self.bias[part].float())

    def _finished(self, logits: Tensor) -> Tensor:
        """Return logits as the model's own scale and soft-cap leave them."""
        logits = logits * self.scale
        return (
            logits if self.soft_cap is None else self.soft_cap * torch.tanh(logits / self.soft_cap)
        )

    @torch.no_grad()
    def check_logits(self, hf_model: Any, bos: int | None, device: torch.device) -> None:  # noqa: ANN401
        """Compare with the model's own logits on a short probe.

        Raises:
            UnavailableError: they differ, so this model does something unknown to its logits.
        """
        ids = torch.arange(PROBE_LENGTH, device=device)[None] + 7
        ids[0, 0] = bos if bos is not None else ids[0, 0]
        ids = ids % len(self.weight)
        theirs = hf_model(input_ids=ids).logits[:, -1].float()  # (1, vocabulary)
        hidden = hf_model.base_model(input_ids=ids).last_hidden_state[:, -1]
        tokens = theirs.topk(4).indices
        ours, expected = self.logits(hidden, tokens), theirs.gather(1, tokens)
        ours = torch.cat([ours, self.log_normalizer(hidden)[:, None]], dim=1)
        expected = torch.cat([expected, theirs.logsumexp(dim=1, keepdim=True)], dim=1)
        precision = 1e-4 if hidden.dtype == torch.float32 else 2e-2
        if not torch.allclose(ours, expected, rtol=precision, atol=precision):
            msg = f"the logits of {type(hf_model).__name__} are not what its unembedding gives."
            hint = "atp does not know this model's output head; please report the architecture."
            raise UnavailableError(msg, hint)
