"""Dictionaries as their publishers have them on the hub, thin and random, with what they compute.

One function for each format: it returns the files of a repository, in the layout and with the names
of the real one, and the formulas of whoever trained it, which share nothing with SAELens.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
import yaml
from safetensors.torch import save
from torch import Tensor

D_SAE = 96
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Files = dict[str, bytes]


@dataclass
class Formulas:
    """What a dictionary computes. An Elsewhere takes it for an SAE.

    encode(x) = activation((n(x) - b_in) @ W_enc + b_enc), decode(f) = (f @ W_dec + b_dec) * size
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    activation: Callable[[Tensor], Tensor] = torch.relu
    b_in: Tensor | float = 0.0
    normalise: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda x: (x, torch.ones(()))
    """From x to n(x) and size."""
    _size: Tensor = field(default_factory=lambda: torch.ones(()), repr=False)

    def encode(self, x: Tensor) -> Tensor:
        """Return features, (n, d_sae), of x, (n, d_in)."""
        normalised, self._size = self.normalise(x)
        return self.activation((normalised - self.b_in) @ self.W_enc + self.b_enc)

    def decode(self, features: Tensor) -> Tensor:
        """Return what features write, (n, d_out), for the x that was encoded last."""
        return (features @ self.W_dec + self.b_dec) * self._size


def scaled(by: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return the normalisation that multiplies by a number."""
    return lambda x: (x * by, torch.tensor(1 / by))


def to_norm(x: Tensor) -> tuple[Tensor, Tensor]:
    """Give each x the length sqrt(width)."""
    size = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
    return x / size, size


def layer_norm(x: Tensor) -> tuple[Tensor, Tensor]:
    """Give each x the mean 0 and the standard deviation 1."""
    size = x.std(dim=-1, keepdim=True)
    return (x - x.mean(dim=-1, keepdim=True)) / (size + 1e-5), size


@dataclass(frozen=True)
class Published:
    """A dictionary in the files of its repository."""

    files: Files
    formulas: Formulas
    sizes: dict[str, int] = field(default_factory=dict)
    """Where a loader has the sizes of the real one in its source: those of this one."""


def put(cache: Path, repository: str, files: Files) -> Path:
    """Write a repository's files into a hub cache; return the folder of its only commit."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    folder = root / "snapshots" / COMMIT
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# --- file formats


def npz(**tensors: Tensor) -> bytes:
    """Return a NumPy archive."""
    file = io.BytesIO()
    np.savez(file, **{name: tensor.numpy() for name, tensor in tensors.items()})
    return file.getvalue()


def pt(**tensors: Any) -> bytes:
    """Return a PyTorch archive."""
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def safetensors(**tensors: Tensor) -> bytes:
    """Return a safetensors file."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def to_json(**content: Any) -> bytes:
    """Return a JSON file."""
    return json.dumps(content).encode()


# --- weights and activations


def weights(d_in: int = tiny.D_MODEL, d_out: int = tiny.D_MODEL, seed: int = 0) -> Formulas:
    """Return random weights of a ReLU dictionary."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    return Formulas(
        W_enc=normal(d_in, D_SAE, scale=0.3),
        b_enc=normal(D_SAE, scale=0.5),
        W_dec=normal(D_SAE, d_out, scale=0.3),
        b_dec=normal(d_out, scale=0.5),
    )


def jump(threshold: Tensor | float) -> Callable[[Tensor], Tensor]:
    """Return JumpReLU: what is above the threshold, as it is."""
    return lambda pre: torch.where(pre > threshold, pre, 0).relu()


def top(k: int) -> Callable[[Tensor], Tensor]:
    """Return TopK: the k largest, less those below 0."""

    def activation(pre: Tensor) -> Tensor:
        values, places = pre.topk(k)
        return torch.zeros_like(pre).scatter(-1, places, values.relu())

    return activation


THRESHOLDS = torch.rand(D_SAE, generator=torch.Generator().manual_seed(9))
SIZES = {"d_in": tiny.D_MODEL, "d_sae": D_SAE}


# --- one publisher each


def gemma_scope(path: str) -> Published:
    """Gemma Scope: SAEs and transcoders of Gemma 2."""
    w = weights()
    file = npz(W_enc=w.W_enc, b_enc=w.b_enc, W_dec=w.W_dec, b_dec=w.b_dec, threshold=THRESHOLDS)
    w.activation = jump(THRESHOLDS)
    sizes = SIZES | {"d_out": tiny.D_MODEL}
    if path.startswith("embedding"):  # trained on embeddings that are not yet scaled
        w.W_enc, w.W_dec = w.W_enc / tiny.D_MODEL**0.5, w.W_dec * tiny.D_MODEL**0.5
    return Published({f"{path}/params.npz": file}, w, sizes)


def gemma_scope_2(path: str, config: dict[str, Any] | None = None) -> Published:
    """Gemma Scope 2: SAEs, transcoders and affine transcoders of Gemma 3.

    Not every repository has a config.json beside the weights.
    """
    w = weights()
    tensors = {
        "w_enc": w.W_enc,
        "b_enc": w.b_enc,
        "w_dec": w.W_dec,
        "b_dec": w.b_dec,
        "threshold": THRESHOLDS,
    }
    if path.endswith("_affine"):
        generator = torch.Generator().manual_seed(1)
        skip = torch.randn(tiny.D_MODEL, tiny.D_MODEL, generator=generator)
        tensors["affine_skip_connection"] = skip
    w.activation = jump(THRESHOLDS)
    files = {f"{path}/params.safetensors": safetensors(**tensors)}
    if config is not None:
        files[f"{path}/config.json"] = to_json(architecture="jump_relu", **config)
    return Published(files, w)


def llama_scope(path: str, hook_point: str, scale: float) -> Published:
    """Llama Scope: trained on inputs of length sqrt(d_model) on average; `scale` makes them so.

    Its thresholds are of unscaled inputs.
    """
    w = weights()
    w.b_enc, threshold = w.b_enc * scale, 0.5
    parameters = to_json(
        d_model=tiny.D_MODEL,
        d_sae=D_SAE,
        act_fn="jumprelu",
        jump_relu_threshold=threshold,
        hook_point_in=hook_point,
        hook_point_out=hook_point,
        dataset_average_activation_norm={"in": tiny.D_MODEL**0.5 / scale, "out": 1.0},
    )
    file = safetensors(**_linear(w))
    w.activation, w.normalise = jump(threshold * scale), scaled(scale)
    files = {
        f"{path}/hyperparams.json": parameters,
        f"{path}/checkpoints/final.safetensors": file,
    }
    return Published(files, w)


def llama_scope_r1(path: str, hook_point: str, scale: float) -> Published:
    """Llama Scope of R1-Distill: with a threshold for each feature."""
    w = weights()
    expansion = D_SAE // tiny.D_MODEL
    config = to_json(d_model=tiny.D_MODEL, expansion_factor=expansion, hook_point_in=hook_point)
    file = safetensors(**_linear(w), log_jumprelu_threshold=THRESHOLDS.log())
    w.activation, w.normalise = jump(THRESHOLDS), scaled(scale)
    return Published({f"{path}/config.json": config, f"{path}/sae_weights.safetensors": file}, w)


def _linear(w: Formulas) -> dict[str, Tensor]:
    """Return weights as two torch.nn.Linear save them."""
    return {
        "encoder.weight": w.W_enc.T.contiguous(),
        "encoder.bias": w.b_enc,
        "decoder.weight": w.W_dec.T.contiguous(),
        "decoder.bias": w.b_dec,
    }


def dictionary_learning(path: str, kind: str, model: str, layer: int) -> Published:
    """The library dictionary_learning: a class for each activation."""
    w, k = weights(), 10
    linear = _linear(w)
    del linear["decoder.bias"]
    w.b_in = w.b_dec
    if kind == "AutoEncoder":
        tensors: dict[str, Any] = {**linear, "bias": w.b_dec}
    elif kind == "AutoEncoderTopK":
        tensors = {**linear, "b_dec": w.b_dec, "k": torch.tensor(k), "threshold": torch.tensor(5.0)}
        w.activation = top(k)
    elif kind == "GatedAutoEncoder":
        generator = torch.Generator().manual_seed(2)
        gate, magnitude, r = (torch.randn(D_SAE, generator=generator) * 0.5 for _ in range(3))
        tensors = {
            "encoder.weight": linear["encoder.weight"],
            "decoder.weight": linear["decoder.weight"],
            "decoder_bias": w.b_dec,
            "gate_bias": gate,
            "mag_bias": magnitude,
            "r_mag": r,
        }
        w.b_enc = torch.zeros(D_SAE)
        w.activation = lambda pre: (pre + gate > 0) * torch.relu(r.exp() * pre + magnitude)
    else:
        plain = {"W_enc": w.W_enc, "b_enc": w.b_enc, "W_dec": w.W_dec, "b_dec": w.b_dec}
        threshold = THRESHOLDS if kind == "JumpReluAutoEncoder" else torch.tensor(0.4)
        tensors = {**plain, "threshold": threshold}
        w.activation = jump(threshold)
        if kind == "JumpReluAutoEncoder":
            w.b_in = 0.0
    trainer = {
        "dict_class": kind,
        "layer": layer,
        "activation_dim": tiny.D_MODEL,
        "dict_size": D_SAE,
        "lm_name": model,
        "k": k,
    }
    config = to_json(trainer=trainer, buffer={"ctx_len": 128, "d_submodule": tiny.D_MODEL})
    return Published({f"{path}/config.json": config, f"{path}/ae.pt": pt(**tensors)}, w)


def goodfire(path: str) -> Published:
    """Goodfire's SAEs of Llama."""
    w = weights()
    linear = {name.replace(".", "_linear."): tensor for name, tensor in _linear(w).items()}
    return Published({path: pt(**linear)}, w, SIZES)


def deepseek_r1(path: str) -> Published:
    """The SAE of R1-Distill by qresearch."""
    w = weights()
    return Published({path: pt(**_linear(w))}, w, SIZES)


def qwen_scope(path: str, k: int) -> Published:
    """Qwen-Scope: TopK SAEs; k is in the repository's name."""
    w = weights()
    file = pt(
        W_enc=w.W_enc.T.contiguous(), W_dec=w.W_dec.T.contiguous(), b_enc=w.b_enc, b_dec=w.b_dec
    )
    w.activation = top(k)
    return Published({path: file}, w, SIZES)


def kissane(path: str, hook_point: str) -> Published:
    """SAEs of all attention heads of GPT-2, by Connor Kissane and Robert Krzyzanowski."""
    w = weights()
    config = to_json(act_size=tiny.D_MODEL, dict_size=D_SAE, act_name=hook_point)
    file = pt(W_enc=w.W_enc, b_enc=w.b_enc, W_dec=w.W_dec, b_dec=w.b_dec)
    w.b_in = w.b_dec
    return Published({path: file, path.removesuffix(".pt") + "_cfg.json": config}, w)


def hanna(path: str, model: str, *, with_config: bool = True) -> Published:
    """Transcoders of Qwen3 by Michael Hanna: ReLU, from the norm's output to the MLP's."""
    w = weights()
    log = {"d_model": tiny.D_MODEL, "d_feature": D_SAE, "batch_size": 4096}
    files = {
        path: safetensors(W_enc=w.W_enc.T, b_enc=w.b_enc, W_dec=w.W_dec, b_dec=w.b_dec),
        "wandb-config.yaml": yaml.dump(
            {name: {"value": value} for name, value in log.items()}
        ).encode(),
    }
    if with_config:
        files["config.yaml"] = yaml.dump({"model_name": model}).encode()
    else:  # the repositories without it have a slip of the pen, too
        files["wanb-config.yaml"] = files.pop("wandb-config.yaml")
    return Published(files, w)


def cross_layer(layer: int, layers: int, reads: str) -> Published:
    """A layer of a cross-layer transcoder: a decoder for this layer and each later one."""
    count = layers - layer
    w = weights(d_out=count * tiny.D_MODEL)
    bias = w.b_dec[: tiny.D_MODEL]
    config = {
        "model_name": "google/gemma-2-2b",
        "feature_input_hook": reads,
        "feature_output_hook": "hook_mlp_out",
    }
    encoder = {f"W_enc_{layer}": w.W_enc.T, f"b_enc_{layer}": w.b_enc, f"b_dec_{layer}": bias}
    decoder = {f"W_dec_{layer}": w.W_dec.unflatten(1, (count, tiny.D_MODEL))}
    files = {
        "config.yaml": yaml.dump(config).encode(),
        f"W_enc_{layer}.safetensors": safetensors(**encoder),
        f"W_dec_{layer}.safetensors": safetensors(**decoder),
    }
    return Published(files, w)


def sae_lens(path: str, scale: float = 1.0, **config: Any) -> Published:
    """A repository that SAELens itself has saved, in the words of its versions before 6."""
    w = weights()
    file = safetensors(W_enc=w.W_enc, b_enc=w.b_enc, W_dec=w.W_dec, b_dec=w.b_dec)
    if config.get("apply_b_dec_to_input", True):
        w.b_in = w.b_dec
    settings = {**SIZES, "dtype": "torch.float32", "device": "cuda", **config}
    w.normalise = {
        "expected_average_only_in": scaled(scale),
        "constant_norm_rescale": to_norm,
        "layer_norm": layer_norm,
    }.get(config.get("normalize_activations", ""), w.normalise)
    if config.get("activation_fn_str") == "topk":
        w.activation = top(config["activation_fn_kwargs"]["k"])
    return Published(
        {f"{path}/cfg.json": to_json(**settings), f"{path}/sae_weights.safetensors": file}, w
    )
