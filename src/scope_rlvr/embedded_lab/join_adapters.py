"""Adapters that were trained one after the other as one adapter of the first model.

    python -m scope_rlvr.embedded_lab.join_adapters --base owner/name --adapters stage1 stage2 --rank 12 --out FOLDER

Each was trained on the model with those before it merged in, so the changes add up: ``sum_i scale_i B_i A_i``. This has the sum of
their ranks; the best approximation of a lower rank (Eckart and Young) comes from a singular value decomposition of each
layer's change.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scope_rlvr.models.adapters import CONFIG, WEIGHTS
from scope_rlvr.store.files import read_json, write_json

_A, _B = "lora_A.weight", "lora_B.weight"


def low_rank(a_SI: Tensor, b_OS: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The best ``rank``-row ``A`` and ``rank``-column ``B`` for the product ``b a``, and the share of its squared norm that is lost.

    >>> a, b, lost = low_rank(torch.diag(torch.tensor([3.0, 1.0])), torch.eye(2), rank=1)
    >>> (b @ a).round(decimals=4).abs().tolist(), round(lost, 4)
    ([[3.0, 0.0], [0.0, 0.0]], 0.1)
    """
    q_b, r_b = torch.linalg.qr(b_OS)
    q_a, r_a = torch.linalg.qr(a_SI.T)
    u, singular, v = torch.linalg.svd(r_b @ r_a.T)
    root = singular[:rank].sqrt()
    lost = float(singular[rank:].square().sum() / singular.square().sum())
    return root[:, None] * v[:rank] @ q_a.T, q_b @ u[:, :rank] * root, lost


def join(base: str, adapters: Sequence[Path], rank: int, out: Path) -> float:
    """Write one adapter for all; returns the largest share of a layer's change that is lost."""
    weights = [load_file(adapter / WEIGHTS) for adapter in adapters]
    settings = [read_json(adapter / CONFIG, "the adapter") for adapter in adapters]
    scales = [one["lora_alpha"] / one["r"] for one in settings]
    joined: dict[str, Tensor] = {}
    losses = []
    for place in sorted({name.removesuffix(_A) for name in weights[0] if name.endswith(_A)}):
        a_SI = torch.cat([one[place + _A].float() for one in weights])
        b_OS = torch.cat([scale * one[place + _B].float() for one, scale in zip(weights, scales, strict=True)], dim=1)
        a_RI, b_OR, lost = low_rank(a_SI, b_OS, rank)
        joined |= {place + _A: a_RI.bfloat16().contiguous(), place + _B: b_OR.bfloat16().contiguous()}
        losses.append(lost)
    out.mkdir(parents=True, exist_ok=True)
    save_file(joined, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod(0o644)
    write_json(out / CONFIG, settings[0] | {"base_model_name_or_path": base, "r": rank, "lora_alpha": rank})
    return max(losses)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Adapters that were trained one after the other, as one.")
    parser.add_argument("--base", required=True, help="the name of the first model, for the card")
    parser.add_argument("--adapters", type=Path, nargs="+", required=True, help="their folders, the first one first")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    lost = join(arguments.base, arguments.adapters, arguments.rank, arguments.out)
    print(f"at most {lost:.1%} of the squared norm of a layer's change is lost")


if __name__ == "__main__":
    main()
