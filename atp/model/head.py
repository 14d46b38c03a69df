"""The unembedding of chosen tokens instead of the whole vocabulary.

logit_t = cap(scale * (h . W_U[t] + b_U[t])), in float32, with h the final hidden state: bfloat16
resolves a logit of 20 to about 0.1 only. Log-probabilities need all logits: these are computed for
one chunk of the vocabulary at a time, in the backward pass too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from atp.errors import UnavailableError

PROBE_TOKENS = 6
VOCABULARY_CHUNK_ROWS = 8192
"""Rows of the unembedding that are converted to float32 at a time."""


@dataclass(frozen=True)
class TokenHead:
    """Rows of the unembedding, and what the model does to its logits.

    Results are where the hidden states are; the weights may be on another card.
    """

    weight: Float[Tensor, "vocabulary d_model"]
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
        cap = cap or getattr(config, "logits_soft_cap", None)  # RecurrentGemma
        bias = getattr(unembedding, "bias", None)
        return cls(unembedding.weight, bias, scale, None if cap is None else float(cap))

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.weight)

    def logits(
        self, hidden: Float[Tensor, "batch d_model"], tokens: Int[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n"]:
        """Return the logits of chosen token ids; float32, whatever the model's dtype."""
        tokens = tokens.to(self.weight.device)
        rows = self.weight[tokens].float()  # (batch, n, d_model)
        logits = torch.einsum("bd,bnd->bn", hidden.to(rows.device).float(), rows)
        if self.bias is not None:
            logits = logits + self.bias[tokens].float()
        return self._scaled_and_capped(logits).to(hidden.device)

    def log_normalizer(self, hidden: Float[Tensor, "batch d_model"]) -> Float[Tensor, " batch"]:
        """Return log sum exp over the logits of the whole vocabulary, in float32."""
        here = hidden.to(self.weight.device)
        # A checkpoint keeps no logits for the backward pass: it computes each chunk again.
        chunks = [
            checkpoint(
                self._log_sum_exp, here, chunk, use_reentrant=False, preserve_rng_state=False
            )
            for chunk in self._chunks()
        ]
        return torch.stack(chunks).logsumexp(dim=0).to(hidden.device)

    def every_logit(self, hidden: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocabulary"]:
        """Return the logits of the whole vocabulary, in float32."""
        here = hidden.to(self.weight.device)
        logits = torch.cat([self._chunk_logits(here, chunk) for chunk in self._chunks()], dim=1)
        return logits.to(hidden.device)

    def _chunks(self) -> list[slice]:
        starts = range(0, self.vocabulary, VOCABULARY_CHUNK_ROWS)
        return [slice(start, start + VOCABULARY_CHUNK_ROWS) for start in starts]

    def _log_sum_exp(
        self, hidden: Float[Tensor, "batch d_model"], chunk: slice
    ) -> Float[Tensor, " batch"]:
        return self._chunk_logits(hidden, chunk).logsumexp(dim=1)

    def _chunk_logits(
        self, hidden: Float[Tensor, "n d_model"], chunk: slice
    ) -> Float[Tensor, "n chunk"]:
        logits = hidden.float() @ self.weight[chunk].float().T
        if self.bias is not None:
            logits = logits + self.bias[chunk].float()
        return self._scaled_and_capped(logits)

    def _scaled_and_capped(self, logits: Tensor) -> Tensor:
        logits = logits * self.scale
        if self.soft_cap is None:
            return logits
        return self.soft_cap * torch.tanh(logits / self.soft_cap)

    @torch.no_grad()
    def check_logits(self, hf_model: Any, bos: int | None, device: torch.device) -> None:  # noqa: ANN401
        """Raise UnavailableError if the model's own logits differ on a short probe."""
        ids = torch.arange(PROBE_TOKENS, device=device)[None] + 7
        ids[0, 0] = bos if bos is not None else ids[0, 0]
        ids = ids % self.vocabulary
        theirs = hf_model(input_ids=ids).logits[:, -1].float()  # (1, vocabulary)
        hidden = hf_model.base_model(input_ids=ids).last_hidden_state[:, -1].to(device)
        tokens = theirs.topk(4).indices
        ours, expected = self.logits(hidden, tokens), theirs.gather(1, tokens)
        ours = torch.cat([ours, self.log_normalizer(hidden)[:, None]], dim=1)
        expected = torch.cat([expected, theirs.logsumexp(dim=1, keepdim=True)], dim=1)
        precision = 1e-4 if hidden.dtype == torch.float32 else 2e-2
        if not torch.allclose(ours, expected, rtol=precision, atol=precision):
            msg = f"the logits of {type(hf_model).__name__} are not what its unembedding gives."
            hint = "atp does not know this model's output head; please report the architecture."
            raise UnavailableError(msg, hint)
