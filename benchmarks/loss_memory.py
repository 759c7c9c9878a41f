"""Peak memory and time of the loss at a large vocabulary: ours and TRL's own.

    python benchmarks/loss_memory.py                        8 rows of 1,024 response tokens, 152,064 words
    python benchmarks/loss_memory.py --rows 2 --vocabulary 50000

A decoder of one narrow layer stands before the vocabulary, so that logits are what there is to see. Each way runs in a process
of its own, forward and backward; its figure is the peak of the process less what it held when the model was loaded.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WAYS = ("ours", "trl")
MIB = 2**20


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=152_064)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--way", choices=WAYS, help="measure this one, in this process")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    given = parser.parse_args()
    if given.way is not None:
        print(json.dumps(measured(given.way, given)))
        return
    sizes = [f"--{name}={getattr(given, name)}" for name in ("rows", "tokens", "vocabulary", "width")]
    figures = {}
    for way in WAYS:
        command = [sys.executable, __file__, *sizes, "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{way}: exit code {done.returncode}\n{done.stderr}")
        figures[way] = json.loads(done.stdout.splitlines()[-1])
    print(f"{given.rows} rows x {given.tokens} tokens, vocabulary {given.vocabulary:,}, width {given.width}")
    for way, found in figures.items():
        share = found["peak_mib"] / figures["trl"]["peak_mib"]
        print(f"{way:13} {found['peak_mib']:8,.0f} MiB ({share:.2f} of TRL's)  {found['seconds']:6.1f} s")
    if given.out is not None:
        given.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measured(way: str, given: argparse.Namespace) -> dict[str, float]:
    """Peak memory in MiB and seconds of one forward and backward pass."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=given.vocabulary,
        hidden_size=given.width,
        intermediate_size=2 * given.width,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2 * given.tokens,
    )
    model = LlamaForCausalLM(config)
    ids = torch.randint(given.vocabulary, (given.rows, given.tokens + 8))
    read = _reader(way, model)
    # Gradients are there before and after in every training.
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    started = time.perf_counter()
    logp_BT = read(ids, torch.ones_like(ids), given.tokens)
    logp_BT.mean().backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    return {"peak_mib": peak - before, "seconds": time.perf_counter() - started}


def _reader(way: str, model: Any) -> Any:
    """``(ids, mask, number of tokens) -> log-probabilities``, entropies computed beside them."""
    from scope_rlvr.formulas.readings import Detached, Entropy, LogProb
    from scope_rlvr.models.reading import read_last

    if way == "ours":
        reducers = [LogProb(), Detached(of=Entropy())]
        return lambda ids, mask, count: read_last(model, ids, mask, count, reducers, 1.0)["logprob"]
    from contextlib import nullcontext
    from types import SimpleNamespace

    from trl import GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    trainer: Any = SimpleNamespace(
        accelerator=SimpleNamespace(autocast=nullcontext, is_main_process=False), args=SimpleNamespace(report_to=[])
    )
    own = GRPOTrainer._get_per_token_logps_and_entropies
    return lambda ids, mask, count: own(trainer, model, ids, mask, count, compute_entropy=True)[0]


if __name__ == "__main__":
    main()
