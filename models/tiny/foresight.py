#!/usr/bin/env python3
"""Would drafts foresee routing?  The next tokens are drafted with resident experts only, and their routes compared with those
that the exact model then takes.

    pip install torch numpy tokenizers safetensors
    python3 models/tiny/foresight.py

Recall at a distance: of the experts that a token uses, so many tokens ahead, the share that the draft's token at that distance
chose (of all experts, by its own router; only those in memory work).  Beside it what needs no draft: the experts of the
token at hand, and as many of the most used so far.  Memory holds the same share of every layer's experts, the most recently used.
"""

import argparse
import collections
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import export
import measure
import model as small
import prompts

HERE = Path(__file__).resolve().parent
AHEAD = 8


class Masked:
    """Stands in for `Layer.experts`: each token has its own experts to work with; what it would choose of all is kept."""

    def __init__(self):
        self.allowed, self.wanted, self.layer = None, [], 0

    def __call__(self, layer, x, top_k, resident, compute):
        logits = F.linear(x, layer.router)
        self.wanted.append(logits.topk(top_k, -1).indices)
        allowed = self.allowed[self.layer]
        self.layer += 1
        probs = logits.masked_fill(~allowed, float("-inf")).softmax(-1)
        weight, chosen = probs.topk(top_k, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        full = torch.zeros_like(probs).scatter(1, chosen, weight)
        gate, up = torch.einsum("th,ehd->ted", x, layer.gate_up).chunk(2, -1)
        inner = F.silu(gate) * up * full.unsqueeze(-1)
        return torch.einsum("ted,edh->th", inner, layer.down), torch.zeros(()), chosen


@torch.no_grad()
def run(model, masked, ids, resident=None, start=None):
    """(most likely next token, experts wanted [layers][token, k]); from token `start` on only `resident` work."""
    count = len(ids)
    masked.allowed = torch.ones(model.shape.layers, count, model.shape.experts, dtype=torch.bool)
    if resident is not None:
        masked.allowed[:, start:] = resident.unsqueeze(1)
    masked.wanted, masked.layer = [], 0
    tokens = torch.tensor([ids])
    hidden, _, _ = model(tokens, torch.arange(count).unsqueeze(0), small.causal_mask(torch.zeros_like(tokens)))
    return F.linear(hidden[0, -1], model.head).argmax().item(), masked.wanted


def in_memory(wanted, share, shape, upto):
    """bool [layers, experts]: in every layer the experts used last by the tokens before `upto`."""
    out = torch.zeros(shape.layers, shape.experts, dtype=torch.bool)
    room = max(shape.top_k, round(share * shape.experts))
    for layer, routes in enumerate(wanted):
        last = {e: n for n, route in enumerate(routes[:upto].tolist()) for e in route}
        for e in sorted(last, key=last.get)[-room:]:
            out[layer, e] = True
    return out


def recall(found, true):
    """Share of the experts of `true` [layers][k] that are among those of `found` [layers]."""
    return sum(len(set(a) & set(b)) for a, b in zip(found, true)) / sum(len(b) for b in true)


def measure_one(model, masked, ids, answer_tokens, every, share, sums):
    """Adds the recalls of drafts along one greedy continuation of `ids`."""
    whole = list(ids)
    while len(whole) < len(ids) + answer_tokens:
        whole.append(run(model, masked, whole)[0])
    _, wanted = run(model, masked, whole)
    at = lambda token: [layer[token].tolist() for layer in wanted]
    for start in range(len(ids), len(whole) - AHEAD, every):
        resident = in_memory(wanted, share, model.shape, start)
        counts = [collections.Counter(layer[:start].flatten().tolist()) for layer in wanted]
        usual = [[e for e, _ in count.most_common(model.shape.top_k)] for count in counts]
        # token `start` is known (the last one chosen); what follows is drafted
        draft = whole[:start + 1]
        for distance in range(1, AHEAD + 1):
            draft.append(run(model, masked, draft, resident, start)[0])
            _, drafted = run(model, masked, draft, resident, start)
            true = at(start + distance)
            sums["draft", distance].append(recall([layer[-1].tolist() for layer in drafted], true))
            sums["token at hand", distance].append(recall(at(start), true))
            sums["most used", distance].append(recall(usual, true))
            sums["same token", distance].append(float(draft[-1] == whole[start + distance]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=12, help="beginnings of each domain, and as many tasks")
    parser.add_argument("--tokens", type=int, default=40, help="of every continuation")
    parser.add_argument("--every", type=int, default=4, help="a draft every so many tokens")
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    model, masked, rng = export.read(HERE), Masked(), random.Random(7)
    small.Layer.experts = lambda layer, *rest: masked(layer, *rest)
    material = {name: [row[:64] for row in rng.sample(rows, min(args.items, len(rows)))]
                for name, rows in measure.heldout_rows(tokenizer, HERE / "heldout").items()}
    tasks = [i for items in measure.task_items(HERE / "tasks").values() for i in rng.sample(items, 2)]
    material["tasks"] = [tokenizer.encode(prompts.wrap(q)[0]).ids for q, _ in rng.sample(tasks, args.items)]
    for share in (0.25, 0.5):
        sums = collections.defaultdict(list)
        for rows in material.values():
            for ids in rows:
                measure_one(model, masked, ids, args.tokens, args.every, share, sums)
        print("%d %% of the experts in memory, %d drafts" % (100 * share, len(sums["draft", 1])))
        measure.table(["tokens ahead"] + [str(d) for d in range(1, AHEAD + 1)],
                      [[name] + ["%.1f %%" % (100 * sum(sums[name, d]) / len(sums[name, d])) for d in range(1, AHEAD + 1)]
                       for name in ("draft", "token at hand", "most used", "same token")])


if __name__ == "__main__":
    main()
