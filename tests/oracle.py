"""The notebook's procedure, written plainly and slowly: what every faster path is compared with.

One pair at a time: the whole text in one pass of the plain Hugging Face model, gradients through
everything, the SAE inside a forward hook on the layer, full logits. Nothing is shared with atp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

LAYERS_OF = {
    "gpt2": lambda model: model.transformer.h,
    "gpt_neox": lambda model: model.gpt_neox.layers,
}


@dataclass
class Answer:
    """What the notebook gives for one pair."""

    token_position: int
    target_token: str
    base_token: str
    logit_diff: float
    activations: torch.Tensor
    """(d_sae,)"""
    gradients: torch.Tensor
    """(d_sae,)"""
    scores: torch.Tensor
    """(d_sae,)"""


class Oracle:
    """A plain model, its tokenizer, and an SAE on the output of one layer."""

    def __init__(
        self,
        model_folder: str,
        sae: SAE[Any],
        layer: int,
        gguf_file: str | None = None,
        part: str | None = None,
    ) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(
            model_folder, dtype=torch.float32, attn_implementation="eager", gguf_file=gguf_file
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model_folder, gguf_file=gguf_file)
        self.sae = sae
        kind = self.model.config.model_type
        self.part = part
        """A part of the layer whose input the SAE reads; None: the layer's output."""
        self.layer = LAYERS_OF.get(kind, lambda model: model.model.layers)(self.model)[layer]

    def ids(self, prompt: str, response: str, other: str, *, chat: bool) -> tuple[list[int], int]:
        """Return the token ids of prompt + response, and the number of prompt tokens.

        `other` is the other answer to the prompt: both follow one rule, or their positions differ.
        """
        if chat:
            messages = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )

        def encode(text: str) -> list[int]:
            return self.tokenizer.encode(text, add_special_tokens=False)

        prompt_ids = encode(prompt)
        n = len(prompt_ids)
        both_joint = (
            encode(prompt + response)[:n] == prompt_ids and encode(prompt + other)[:n] == prompt_ids
        )
        ids = encode(prompt + response) if both_joint else prompt_ids + encode(response)
        bos = self.tokenizer.bos_token_id
        if bos is None:  # Qwen: transformer_lens puts nothing there, either
            return ids, n
        while ids[0] == bos and n > 0:
            ids, n = ids[1:], n - 1
        return [bos, *ids], n + 1

    def first_difference(
        self, prompt: str, target: str, base: str, *, chat: bool = False, max_tokens: int = 20
    ) -> tuple[list[int], int, int, int, int] | None:
        """Return (target ids, p, o, t, b), or None where the answers do not differ."""
        target_ids, n = self.ids(prompt, target, base, chat=chat)
        base_ids, _ = self.ids(prompt, base, target, chat=chat)
        p = n - 1
        for o in range(1, max_tokens + 1):
            if p + o >= min(len(target_ids), len(base_ids)):
                return None
            if target_ids[p + o] != base_ids[p + o]:
                return target_ids, p, o, target_ids[p + o], base_ids[p + o]
        return None

    def __call__(
        self, prompt: str, target: str, base: str, *, chat: bool = False, max_tokens: int = 20
    ) -> Answer | None:
        """Score one pair; None where there is nothing to compare."""
        if not target or not base:
            return None
        found = self.first_difference(prompt, target, base, chat=chat, max_tokens=max_tokens)
        if found is None:
            return None
        ids, p, o, t, b = found
        kept: list[torch.Tensor] = []

        def splice_sae(_module: object, _inputs: object, output: Any) -> Any:
            x = output[0] if isinstance(output, tuple) else output
            features = self.sae.encode(x.detach()).detach().requires_grad_()
            kept.append(features)
            decoded = self.sae.decode(features)
            x_out = decoded + (x - decoded).detach()
            return (x_out, *output[1:]) if isinstance(output, tuple) else x_out

        if self.part is None:
            handle = self.layer.register_forward_hook(splice_sae)
        else:
            handle = self.layer.get_submodule(self.part).register_forward_pre_hook(
                lambda module, inputs: splice_sae(module, None, inputs)
            )
        try:
            logits = self.model(torch.tensor([ids])).logits  # (1, sequence, vocabulary)
        finally:
            handle.remove()
        metric = logits[0, p + o - 1, t] - logits[0, p + o - 1, b]
        (features,) = kept
        (gradient,) = torch.autograd.grad(metric, features)
        f, g = features[0, p].detach(), gradient[0, p]
        return Answer(
            token_position=o,
            target_token=self.tokenizer.decode([t]),
            base_token=self.tokenizer.decode([b]),
            logit_diff=float(metric.detach()),
            activations=f,
            gradients=g,
            scores=f * g,
        )
