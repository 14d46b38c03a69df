"""The procedure of the notebook that atp replaces: slow, plain, one pair at a time.

One pass of the plain Hugging Face model reads the whole text, with the SAE in a forward hook on
every position, full logits, and gradients for every activation and every weight. The tests compare
every faster path with it, and `atp bench` times it, so it shares nothing with the rest of atp.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch


@dataclass
class Answer:
    """The notebook's result for one pair."""

    token_position: int
    target_token: str
    base_token: str
    logit_diff: float
    activations: torch.Tensor  # (d_sae,)
    gradients: torch.Tensor  # (d_sae,)
    scores: torch.Tensor  # (d_sae,)


def layers_of(model: Any) -> Any:  # noqa: ANN401  (any Hugging Face causal model)
    """Return the list of a model's layers, whatever its attribute is called."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    return next(m for m in lists if len(m) == count)


@dataclass(eq=False)
class Notebook:
    """A Hugging Face model, its tokenizer, and an SAE of SAELens on the output of a module."""

    model: Any  # its weights get gradients during a call
    tokenizer: Any
    sae: Any
    module: torch.nn.Module
    reads_input: bool = False  # instead of the output

    def __post_init__(self) -> None:
        self.model.requires_grad_(requires_grad=True)

    def ids(self, prompt: str, response: str, other: str, *, chat: bool) -> tuple[list[int], int]:
        """Return the token ids of prompt + response, and the number of prompt tokens.

        `other` is the other response: one rule tokenises both, or their positions would differ.
        """
        if chat:
            messages = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        encode = partial(self.tokenizer.encode, add_special_tokens=False)
        prompt_ids = encode(prompt)
        n = len(prompt_ids)
        both_joint = (
            encode(prompt + response)[:n] == prompt_ids and encode(prompt + other)[:n] == prompt_ids
        )
        ids = encode(prompt + response) if both_joint else prompt_ids + encode(response)
        bos = self.tokenizer.bos_token_id
        if bos is None:  # Qwen: transformer_lens adds none either
            return ids, n
        while ids[0] == bos and n > 0:
            ids, n = ids[1:], n - 1
        return [bos, *ids], n + 1

    def first_difference(
        self, prompt: str, target: str, base: str, *, chat: bool = False, max_tokens: int = 20
    ) -> tuple[list[int], int, int, int, int] | None:
        """Return (target ids, p, o, t, b), or None if the responses do not differ."""
        target_ids, n = self.ids(prompt, target, base, chat=chat)
        base_ids, _ = self.ids(prompt, base, target, chat=chat)
        p = n - 1
        compared = zip(target_ids[n : n + max_tokens], base_ids[n:], strict=False)
        for o, (t, b) in enumerate(compared, start=1):
            if t != b:
                return target_ids, p, o, t, b
        return None

    def __call__(
        self, prompt: str, target: str, base: str, *, chat: bool = False, max_tokens: int = 20
    ) -> Answer | None:
        """Score one pair; None if its responses do not differ."""
        if not target or not base:
            return None
        difference = self.first_difference(prompt, target, base, chat=chat, max_tokens=max_tokens)
        if difference is None:
            return None
        ids, p, o, t, b = difference
        kept: list[torch.Tensor] = []

        def splice_sae(x: torch.Tensor) -> torch.Tensor:
            features = self.sae.encode(x.float())
            features.retain_grad()  # the graph continues below: to every layer and every weight
            kept.append(features)
            decoded = self.sae.decode(features)
            x_out: torch.Tensor = decoded + (x - decoded).detach()
            return x_out.to(x.dtype)

        def on_output(_module: object, _inputs: object, output: Any) -> Any:  # noqa: ANN401
            if isinstance(output, tuple):
                return (splice_sae(output[0]), *output[1:])
            return splice_sae(output)

        def on_input(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (splice_sae(inputs[0]), *inputs[1:])

        handle = (
            self.module.register_forward_pre_hook(on_input)
            if self.reads_input
            else self.module.register_forward_hook(on_output)
        )
        try:
            text = torch.tensor([ids], device=self.model.device)
            logits = self.model(text).logits  # (1, sequence, vocabulary)
            metric = logits[0, p + o - 1, t] - logits[0, p + o - 1, b]
            metric.backward()
        finally:
            handle.remove()
            self.model.zero_grad()  # gradients take as much memory as the weights
        (features,) = kept
        assert features.grad is not None  # noqa: S101  (for the type checker)
        f, g = features[0, p].detach(), features.grad[0, p]
        return Answer(
            token_position=o,
            target_token=self.tokenizer.decode([t]),
            base_token=self.tokenizer.decode([b]),
            logit_diff=float(metric.detach()),
            activations=f,
            gradients=g,
            scores=f * g,
        )
