#!/usr/bin/env python3
"""The figures of README.md: loss, exact match and routing of the model in this folder.

    python3 models/tiny/measure.py loss      held-out loss, beside a dense model and a 5-gram model
    python3 models/tiny/measure.py tasks     exact match, beside a dense model and a guess
    python3 models/tiny/measure.py routing [--routes FOLDER]   load, dead experts, overlap

The dense model and the texts of the 5-gram model are in the work folder of train.py;
without them those columns are left out.
"""

import argparse
import collections
import csv
import gzip
import json
import re
from pathlib import Path

import torch
import torch.nn.functional as F

import prompts
from model import Model, Shape, causal_mask

HERE = Path(__file__).resolve().parent
LENGTH = 256
KS = (4, 8, 16)


# ------------------------------------------------------------------ running

@torch.no_grad()
def run_rows(model, rows, top_k=None, resident=None):
    """Logits [rows, time, vocabulary] of lists of ids, and the choices of each layer.

    Padding is at the end and never attended; the choices, [tokens, k] a layer, leave it out.
    """
    size = max(map(len, rows))
    ids = torch.tensor([r + [0] * (size - len(r)) for r in rows])
    pos = torch.arange(size).expand(len(rows), -1)
    hidden, _, chosen = model(ids, pos, causal_mask(torch.zeros_like(ids)), top_k, resident)
    real = torch.tensor([[n < len(r) for n in range(size)] for r in rows]).view(-1)
    return F.linear(hidden, model.head), [None if c is None else c[real] for c in chosen]


def exact_match(model, tokenizer, items, top_k=None, resident=None):
    """[bool] for each item: whether its greedy answer, with its end mark, is the right one.

    Greedy decoding gives the right answer exactly if the most likely token is the
    right one at every place of it, so one pass over question and answer decides.
    """
    good = []
    for at in range(0, len(items), 25):
        rows, spans = [], []
        for question, answer in items[at:at + 25]:
            head, tail = (tokenizer.encode(part).ids for part in prompts.wrap(question, answer))
            rows.append(head + tail[:-1])               # without the newline after the end mark
            spans.append(slice(len(head) - 1, len(head) + len(tail) - 2))
        best = run_rows(model, rows, top_k, resident)[0].argmax(-1).tolist()
        good += [b[s] == r[s.start + 1:s.stop + 1] for b, r, s in zip(best, rows, spans)]
    return good


def share(flags):
    """Part of the flags that is set."""
    return sum(flags) / len(flags)


def text_loss(model, rows, top_k=None, resident=None):
    """Mean loss per token over rows of equal length."""
    total = 0.0
    for at in range(0, len(rows), 8):
        part = rows[at:at + 8]
        logits = run_rows(model, [r[:-1] for r in part], top_k, resident)[0]
        labels = torch.tensor([r[1:] for r in part])
        total += F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
    return total / sum(len(r) - 1 for r in rows)


# ----------------------------------------------------------------- material

def heldout_rows(tokenizer, folder):
    """{domain: rows of LENGTH + 1 ids} of the held-out texts; no row crosses documents."""
    out = {}
    for path in sorted(folder.glob("*.txt")):
        rows = out[path.stem] = []
        for piece in path.read_text("utf-8").split("<|endoftext|>"):
            ids = tokenizer.encode(piece).ids
            rows += [ids[i:i + LENGTH + 1] for i in range(0, len(ids) - LENGTH, LENGTH)]
    return out


def task_items(folder):
    """{task: [(prompt, answer)]} in the order of `prompts.TESTS`, then of those of `prompts.NAMED` that are there."""
    read = lambda task: map(json.loads, (folder / (task + ".jsonl")).read_text("utf-8").splitlines())
    return {task: [(i["prompt"], i["answer"]) for i in read(task)] for task in [*prompts.TESTS, *prompts.NAMED]
            if task in prompts.TESTS or (folder / (task + ".jsonl")).exists()}


def chance(task, items):
    """Exact match of a guess that knows the form of the answer and draws it from the prompt."""
    def one(prompt, answer):
        count = lambda words: sum(bool(re.search(r"\b%s\b" % w, prompt)) for w in words)
        if task.startswith("sensor"):
            return 1 / count(prompts.SENSORS)
        if task.startswith("facts"):
            return 1 / count(prompts.NAMES)
        if task.startswith("list"):
            return 0 if "," in answer else 1 / count(prompts.WORDS)
        if task == "check":
            return 3.0 ** -count(prompts.SENSORS)
        return {"in_range": 1 / 2, "repeat": 0}.get(task, 1 / 100)
    return sum(one(*item) for item in items) / len(items)


def hot_experts(model, rows, count):
    """bool [layers, experts]: the `count` experts of each layer that work most on the rows."""
    out = torch.zeros(model.shape.layers, model.shape.experts, dtype=torch.bool)
    for layer, load in enumerate(expert_load(model, rows)):
        out[layer, load.topk(count).indices] = True
    return out


def expert_load(model, rows):
    """Choices of each expert, [layers, experts]."""
    total = torch.zeros(model.shape.layers, model.shape.experts)
    for at in range(0, len(rows), 8):
        for layer, chosen in enumerate(run_rows(model, rows[at:at + 8])[1]):
            total[layer] += torch.bincount(chosen.flatten(), minlength=model.shape.experts)
    return total


def top_quarter(load):
    """Share of the load that the busiest quarter of the experts carries, mean of the layers."""
    load = load / load.sum(1, keepdim=True)
    return load.topk(load.shape[1] // 4, 1).values.sum(1).mean().item()


def overlap(sequences):
    """(share of a token's experts that the next token has too, what chance would give).

    `sequences`: for each layer a list of [tokens, k] arrays.  Chance is the same for two
    tokens drawn independently with this layer's frequencies: sum of p_e squared, over k,
    with p_e the part of the tokens that chose e.
    """
    both, expected = [], []
    for layer in sequences:
        pairs = [(set(a), set(b)) for part in layer for a, b in zip(part, part[1:])]
        k = len(layer[0][0])
        both.append(sum(len(a & b) for a, b in pairs) / (k * len(pairs)))
        counts = collections.Counter(e for part in layer for token in part for e in token)
        tokens = sum(len(part) for part in layer)
        expected.append(sum((c / tokens) ** 2 for c in counts.values()) / k)
    return sum(both) / len(both), sum(expected) / len(expected)


# ------------------------------------------------------------------ reports

def table(head, rows):
    """Prints a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def five_gram(work, tokenizer):
    """A Kneser-Ney model of all training texts."""
    import data
    from ngram import KneserNey
    return KneserNey(list(data.tokenise(work, tokenizer, data.load_texts(work)).values()))


def report_loss(model, dense, tokenizer, args):
    """Loss per token of each domain: k, dense, 5-gram, and other experts than the domain's own."""
    rows = heldout_rows(tokenizer, HERE / "heldout")
    gram = five_gram(args.work, tokenizer) if args.work.exists() else None
    quarter = model.shape.experts // 4
    hot = {name: hot_experts(model, r, quarter) for name, r in rows.items()}
    names = list(rows)
    body = []
    for n, name in enumerate(names):
        r, other = rows[name], names[(n + 1) % len(names)]
        body.append([name, str(sum(len(x) - 1 for x in r))] + ["%.3f" % text_loss(model, r, k) for k in KS]
                    + ["%.3f" % text_loss(dense, r) if dense else "", "%.3f" % gram.loss(r) if gram else ""]
                    + ["%.3f" % text_loss(model, r, None, hot[name]),
                       "%.3f (%s)" % (text_loss(model, r, None, hot[other]), other)])
    table(["domain", "tokens"] + ["k = %d" % k for k in KS]
          + ["dense", "5-gram", "own %d experts" % quarter, "another domain's %d" % quarter], body)


def report_tasks(model, dense, tokenizer, _):
    """Exact match of each task: k, dense, chance, and with half or a quarter of the experts."""
    tasks = task_items(HERE / "tasks")
    half, quarter = model.shape.experts // 2, model.shape.experts // 4
    prose = heldout_rows(tokenizer, HERE / "heldout")["kjv"]
    body = []
    for task, items in tasks.items():
        # the half of the items whose experts are counted is not the half that is scored
        seen = [sum((tokenizer.encode(p).ids for p in prompts.wrap(*i)), []) for i in items[::2]]
        score = lambda m, k=None, resident=None: "%.1f" % (100 * share(exact_match(m, tokenizer, items, k, resident)))
        few = lambda rows, n: "%.1f" % (100 * share(exact_match(model, tokenizer, items[1::2], None,
                                                                hot_experts(model, rows, n))))
        body.append([task] + [score(model, k) for k in (2,) + KS] + [score(dense) if dense else ""]
                    + ["" if task in prompts.NAMED else "%.1f" % (100 * chance(task, items))]
                    + [few(seen, half), few(prose, half), few(seen, quarter), few(prose, quarter)])
    table(["task", "k = 2"] + ["k = %d" % k for k in KS]
          + ["dense", "guess", "own %d of %d" % (half, model.shape.experts), "the Bible's %d" % half, "own %d" % quarter,
             "the Bible's %d" % quarter], body)


def report_routing(model, _, tokenizer, args):
    """Load of the experts and the overlap of consecutive tokens."""
    material = dict(heldout_rows(tokenizer, HERE / "heldout"))
    for task, items in task_items(HERE / "tasks").items():
        material[task] = [sum((tokenizer.encode(p).ids for p in prompts.wrap(*i)), []) for i in items]
    body, texts = [], torch.zeros(model.shape.layers, model.shape.experts)
    for name, rows in material.items():
        load = expert_load(model, rows)
        if name not in prompts.TESTS and name not in prompts.NAMED:
            texts += load / load.sum()
        single = [run_rows(model, [r])[1] for r in rows[:60]]
        layers = [[s[layer].tolist() for s in single] for layer in range(model.shape.layers)]
        body.append([name, "%.0f %%" % (100 * top_quarter(load))] + ["%.2f" % x for x in overlap(layers)])
    everything = texts / texts.sum(1, keepdim=True)
    body.append(["all texts", "%.0f %%" % (100 * top_quarter(texts)), "", ""])
    if args.routes:
        body += [route_row(path) for path in sorted(args.routes.glob("*.gz"))]
    table(["material", "busiest quarter", "overlap with the next token", "by chance"], body)
    print("\nOf %d experts %d are never chosen in the held-out texts, %d get less than a tenth of an even share."
          % (texts.numel(), int((texts == 0).sum()), int((everything < 0.1 / model.shape.experts).sum())))


def route_row(path):
    """The same figures of a recorded trace of another model (decode only)."""
    layers = collections.defaultdict(lambda: collections.defaultdict(set))
    with gzip.open(path, "rt") as lines:
        if path.name.endswith(".csv.gz"):
            for row in csv.DictReader(line for line in lines if not line.startswith("#")):
                if row["phase"] == "1":
                    layers[int(row["layer"])][int(row["step"])].add(int(row["expert"]))
        else:
            for line in map(json.loads, lines):
                for layer, chosen in enumerate(line["layers"]):
                    layers[layer][line["tok"]] = set(chosen)
    experts = 1 + max(max(s) for steps in layers.values() for s in steps.values())
    experts = 1 << (experts - 1).bit_length()
    sequences = [[[sorted(steps[n]) for n in sorted(steps)]] for steps in layers.values()]
    load = torch.zeros(len(layers), experts)
    for layer, (part,) in enumerate(sequences):
        load[layer] = torch.bincount(torch.tensor(part).flatten(), minlength=experts)
    return [path.name, "%.0f %%" % (100 * top_quarter(load))] + ["%.2f" % x for x in overlap(sequences)]


REPORTS = {"loss": report_loss, "tasks": report_tasks, "routing": report_routing}


def main():
    from tokenizers import Tokenizer
    import export
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", choices=list(REPORTS))
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/sage-tiny")
    parser.add_argument("--routes", type=Path, help="folder with recorded routes of other models")
    args = parser.parse_args()
    torch.set_num_threads(2)
    model, dense = export.read(HERE), None
    if (args.work / "dense.pt").exists():
        dense = Model(Shape(experts=0))
        dense.load_state_dict(torch.load(args.work / "dense.pt", weights_only=False)["model"])
        with torch.no_grad():           # as stored: what is compared is rounded alike
            for p in dense.parameters():
                p.copy_(p.to(torch.bfloat16).float())
    REPORTS[args.report](model, dense, Tokenizer.from_file(str(HERE / "tokenizer.json")), args)


if __name__ == "__main__":
    main()
