"""Train an SAE on the residual stream after a layer, with SAELens; by default the demo's.

Usage: train_sae.py MODEL TEXT OUT [options]

MODEL  a model's folder, as get_model.py makes it
TEXT   a folder of HTML pages of argumentative prose (README.md says which one was used)
OUT    the folder to write cfg.json, sae_weights.safetensors and training.json to

Options:
  --layer=N      after this layer, counted from 0 [default: 20]
  --kind=NAME    topk, or batchtopk, which is saved as a JumpReLU SAE [default: topk]
  --features=N   its width [default: 2048]
  --k=N          active features, of batchtopk on average [default: 32]
  --name=NAME    the model's name on the hub [default: HuggingFaceTB/SmolLM2-135M-Instruct]
  --vectors=N    residual vectors to collect [default: 400000]
  --steps=N      training steps of 2,048 vectors [default: 3000]
  --seed=N       seed of the shuffles and of the initial weights [default: 0]

Every other passage is put to the model as a chat, wrapped the way the feedback task wraps its
texts ("Please comment briefly on the following argument. I really like the argument. ..."), up to
and with the start of the model's turn: that is where atp reads. A model without a chat template
reads the same words as plain text. The demo's own input is not among the training data.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import torch
from docopt import docopt
from sae_lens import SAE, SAETrainer, TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import SAEMetadata
from transformer_lens.model_bridge import TransformerBridge

TRAIN_BATCH, MODEL_BATCH = 2048, 16
HELD_OUT = 0.05
MAX_TOKENS = 256
KINDS = ("argument", "poem", "text", "solution to a math problem")
OPINIONS = (
    "",
    "I really like the {kind}.",
    "I really dislike the {kind}.",
    "I wrote the {kind}.",
    "I did not write the {kind}.",
)


class Paragraphs(HTMLParser):
    """Collects the text between block tags of an HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start a new paragraph at each block tag."""
        del attrs
        if tag in {"p", "blockquote", "h1", "h2", "h3", "li", "div", "body"}:
            self.paragraphs.append("")

    def handle_data(self, data: str) -> None:
        """Add text to the current paragraph."""
        self.paragraphs[-1] += data


def passages(folder: Path, seed: int) -> list[str]:
    """Return the paragraphs of 100 to 1,000 characters on the pages in `folder`, shuffled."""
    found = []
    for page in sorted(folder.rglob("*.html")):
        parser = Paragraphs()
        parser.feed(page.read_text(encoding="utf-8", errors="replace"))
        found += [re.sub(r"\s+", " ", text).strip() for text in parser.paragraphs]
    texts = sorted({text for text in found if 100 <= len(text) <= 1000})
    random.Random(seed).shuffle(texts)  # noqa: S311  (no secrets here)
    return texts


def as_model_input(text: str, index: int, tokenizer) -> list[int]:  # noqa: ANN001
    """Return token ids: even passages as plain text after one BOS, odd ones as a chat."""
    if index % 2 == 0:
        return [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
    choice = random.Random(index)  # noqa: S311
    kind = choice.choice(KINDS)
    opinion = choice.choice(OPINIONS).format(kind=kind)
    request = f"Please comment briefly on the following {kind}. {opinion}".strip()
    content = f'{request}\n{kind.capitalize()}: "{text}"'
    if tokenizer.chat_template is None:
        words = tokenizer(f"{content}\nComment:", add_special_tokens=False).input_ids
        return [tokenizer.bos_token_id, *words]
    chat = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)


@torch.no_grad()
def residuals(bridge: TransformerBridge, layer: int, texts: list[str], wanted: int) -> torch.Tensor:
    """Run the model on `texts` until `wanted` residual vectors after a layer are collected.

    Returns (wanted, d_model), float32. The first position is left out: its norm is an outlier
    that the SAE would spend itself on.
    """
    tokenizer = bridge.tokenizer
    encoded = [as_model_input(text, i, tokenizer)[:MAX_TOKENS] for i, text in enumerate(texts)]
    encoded.sort(key=len)
    starts = list(range(0, len(encoded), MODEL_BATCH))
    random.Random(0).shuffle(starts)  # noqa: S311
    kept: list[torch.Tensor] = []
    count, begun = 0, time.time()
    for start in starts:
        batch = encoded[start : start + MODEL_BATCH]
        longest = max(map(len, batch))
        ids = torch.full((len(batch), longest), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        captured: list[torch.Tensor] = []

        def keep(x: torch.Tensor, hook: object, into: list[torch.Tensor] = captured) -> None:
            del hook
            into.append(x)

        with bridge.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_post", keep)]):
            bridge(ids, attention_mask=mask, return_type=None, stop_at_layer=layer + 1)
        mask[:, 0] = 0
        kept.append(captured[0][mask.bool()].float())
        count += len(kept[-1])
        if len(kept) % 50 == 0:
            print(f"{count} of {wanted} vectors, {time.time() - begun:.0f} s", flush=True)
        if count >= wanted:
            return torch.cat(kept)[:wanted]
    print(f"The text gave {count} vectors only.")
    return torch.cat(kept)


def batches(vectors: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Yield shuffled batches of `vectors`, epoch after epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(vectors), generator=generator)
        for start in range(0, len(order) - TRAIN_BATCH + 1, TRAIN_BATCH):
            yield vectors[order[start : start + TRAIN_BATCH]]


@torch.no_grad()
def quality(sae: SAE, vectors: torch.Tensor) -> dict[str, float]:
    """Measure L0 and the share of variance explained on vectors the SAE has not seen."""
    features = sae.encode(vectors)
    error = vectors - sae.decode(features)
    spread = vectors - vectors.mean(dim=0)
    return {
        "vectors": len(vectors),
        "variance_explained": 1 - (error.square().sum() / spread.square().sum()).item(),
        "l0": (features > 0).sum(dim=-1).float().mean().item(),
        "features_that_fire": int((features > 0).any(dim=0).sum()),
    }


def main(argv: list[str] | None = None) -> None:
    """Collect, train, measure, save."""
    arguments = docopt(__doc__, argv)
    names = ("--layer", "--features", "--k", "--vectors", "--steps", "--seed")
    layer, d_sae, k, wanted, steps, seed = (int(arguments[name]) for name in names)
    torch.manual_seed(seed)

    bridge = TransformerBridge.boot_transformers(arguments["MODEL"], dtype=torch.float32)
    texts = passages(Path(arguments["TEXT"]), seed)
    vectors = residuals(bridge, layer, texts, wanted)
    split = int(len(vectors) * (1 - HELD_OUT))  # batches were shuffled by passage, not by vector
    train, held_out = vectors[:split], vectors[split:]

    make, make_config = get_sae_training_class(arguments["--kind"])
    sae: TrainingSAE = make(
        make_config(
            d_in=bridge.cfg.d_model,
            d_sae=d_sae,
            k=k,
            # Scales the residual stream while training; SAELens folds the scale into the weights.
            normalize_activations="expected_average_only_in",
            metadata=SAEMetadata(
                model_name=arguments["--name"],
                hook_name=f"blocks.{layer}.hook_resid_post",
                hook_head_index=None,
                prepend_bos=True,
                context_size=MAX_TOKENS,
            ),
        )
    )
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=steps * TRAIN_BATCH,
            train_batch_size_samples=TRAIN_BATCH,
            lr=8e-4,
            lr_end=8e-5,
            lr_warm_up_steps=steps // 20,
            lr_decay_steps=steps // 4,
            n_batches_for_norm_estimate=50,
        ),
        sae=sae,
        data_provider=batches(train, seed),
    )
    trainer.fit()
    sae.fold_W_dec_norm()
    sae.cfg.rescale_acts_by_decoder_norm = False

    out = Path(arguments["OUT"])
    sae.save_inference_model(out)
    saved = SAE.load_from_disk(out)
    record = {
        "passages": len(texts),
        "training_vectors": len(train),
        "training_steps": steps,
        "batch_size": TRAIN_BATCH,
        "seed": seed,
        "held_out": quality(saved, held_out),
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
