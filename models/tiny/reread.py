#!/usr/bin/env python3
"""What could be won by reading twice: the most that reading a context with more experts gives what follows it.

    pip install torch numpy tokenizers safetensors
    python3 models/tiny/reread.py

A context is read with k experts a token, or with the trained eight; what follows is read, or answered, with the same number in
both.  That is every segment read again.  Reading only the segments that surprise again can win no more than the best choice of
segments does: `chosen` reads a quarter of them again, those with the greatest loss a token, and `drawn` as many at random.
"""

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
SEGMENT = 16            # tokens
CONTEXT = 192           # of 256
RESAMPLES = 2000


class Counted:
    """Stands in for `Layer.experts`: each token has a number of experts of its own."""

    def __init__(self):
        self.k = None

    def __call__(self, layer, x, top_k, resident, compute):
        probs = F.linear(x, layer.router).softmax(-1)
        weight, chosen = probs.topk(layer.shape.top_k, -1)
        weight = weight * (torch.arange(layer.shape.top_k) < self.k.unsqueeze(1))
        full = torch.zeros_like(probs).scatter(1, chosen, weight / weight.sum(-1, keepdim=True))
        gate, up = torch.einsum("th,ehd->ted", x, layer.gate_up).chunk(2, -1)
        inner = F.silu(gate) * up * full.unsqueeze(-1)
        return torch.einsum("ted,edh->th", inner, layer.down), torch.zeros(()), chosen


@torch.no_grad()
def losses(model, counted, ids, k):
    """Loss of every token but the first; k [tokens] experts each."""
    counted.k = k
    tokens = torch.tensor([ids[:-1]])
    pos = torch.arange(len(ids) - 1).unsqueeze(0)
    hidden, _, _ = model(tokens, pos, small.causal_mask(torch.zeros_like(tokens)))
    return F.cross_entropy(F.linear(hidden[0], model.head), torch.tensor(ids[1:]), reduction="none")


def again(first, count, rng=None):
    """bool [CONTEXT]: a quarter of the segments, those of the greatest loss, or drawn."""
    parts = first[:CONTEXT].unflatten(0, (-1, SEGMENT)).mean(1)
    chosen = parts.topk(count).indices.tolist() if rng is None else rng.sample(range(len(parts)), count)
    out = torch.zeros(len(parts), SEGMENT, dtype=torch.bool)
    out[chosen] = True
    return out.flatten()


def interval(differences, rng):
    means = sorted(sum(rng.choices(differences, k=len(differences))) / len(differences) for _ in range(RESAMPLES))
    mean = sum(differences) / len(differences)
    return "%+.4f [%+.4f, %+.4f]" % (mean, means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)])


def texts(model, counted, tokenizer, k, then, rng):
    """Loss of the last tokens of each window, less that after a context of k experts."""
    rows = [row for rows in measure.heldout_rows(tokenizer, HERE / "heldout").values() for row in rows]
    out = {"all": [], "chosen": [], "drawn": []}
    for row in rows:
        base = torch.full((len(row) - 1,), k)
        base[CONTEXT:] = then
        first = losses(model, counted, row, torch.full((len(row) - 1,), k))
        plain = losses(model, counted, row, base)[CONTEXT:].mean().item()
        quarter = CONTEXT // SEGMENT // 4
        for name, which in (("all", torch.ones(CONTEXT, dtype=torch.bool)), ("chosen", again(first, quarter)),
                            ("drawn", again(first, quarter, rng))):
            ks = base.clone()
            ks[:CONTEXT][which] = model.shape.top_k
            out[name].append(losses(model, counted, row, ks)[CONTEXT:].mean().item() - plain)
    return out


def answers(model, counted, tokenizer, items, k, then):
    """Whether each is answered right after a prompt of k experts a token, and of the trained number."""
    out = []
    for question, answer in items:
        head, tail = (tokenizer.encode(part).ids for part in prompts.wrap(question, answer))
        tail = tail[:-1]        # the line's end behind the mark of the answer's end
        flags = []
        for of_prompt in (k, model.shape.top_k):
            ks = torch.full((len(head + tail) - 1,), then)
            ks[:len(head) - 1] = of_prompt
            counted.k = ks
            tokens = torch.tensor([(head + tail)[:-1]])
            with torch.no_grad():
                hidden, _, _ = model(tokens, torch.arange(tokens.shape[1]).unsqueeze(0),
                                     small.causal_mask(torch.zeros_like(tokens)))
            best = F.linear(hidden[0, len(head) - 1:], model.head).argmax(1).tolist()
            flags.append(best == tail)
        out.append(flags)
    return out


def main():
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    model, counted, rng = export.read(HERE), Counted(), random.Random(5)
    small.Layer.experts = lambda layer, *rest: counted(layer, *rest)
    body = []
    for k, then in ((2, 2), (2, 4), (4, 4), (4, 8)):
        found = texts(model, counted, tokenizer, k, then, rng)
        body.append(["%d" % k, "%d" % then] + [interval(found[name], rng) for name in ("all", "chosen", "drawn")]
                    + [interval([a - b for a, b in zip(found["chosen"], found["drawn"])], rng)])
    measure.table(["context k", "then k", "all again, nats", "a quarter, most surprising", "a quarter, drawn", "difference"], body)
    print()
    tasks = measure.task_items(HERE / "tasks")
    items = [item for name in ("facts", "sensor", "check", "list") for item in tasks[name][:100]]
    body = []
    for k, then in ((2, 4), (2, 8), (4, 8)):
        flags = answers(model, counted, tokenizer, items, k, then)
        rate = lambda at: "%.1f %%" % (100 * sum(f[at] for f in flags) / len(flags))
        body.append(["%d" % k, "%d" % then, rate(0), rate(1), interval([100.0 * (b - a) for a, b in flags], rng)])
    measure.table(["prompt k", "answer k", "right", "right, prompt again at 8", "points"], body)


if __name__ == "__main__":
    main()
