#!/usr/bin/env python3
"""The second stage: the model of train.py is made wider and trained on names that no list holds and on longer contexts.

    pip install torch numpy tokenizers safetensors
    python3 models/tiny/further.py --first FOLDER

FOLDER holds the checkpoint that train.py wrote.  The hidden size doubles without changing what the model computes, of
each layer's experts those that worked most stay, and the base of the rotary positions is raised.  Then it is trained on,
with rows of up to 2,048 tokens, and written beside this file.  An interrupted run continues from the work folder.
"""

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
import export
import measure
import prompts
import strewn
from batches import Batches
from model import SECOND, Model, causal_mask, fast_type
from names import Names
from train import loss_of, new_optimisers, save_atomic

LONG = 2048             # tokens of a long row
LONG_EVERY = 8          # every so many steps a batch is one long row
FARTHEST = 24_000       # positions that long rows reach by leaps
# [(until this step, chance of free ranges where names are new, [(task, share of the training documents)])]; in `KNOWN_SHARE`
# of them the first stage's names, and mostly its ranges
KNOWN_SHARE = 0.25
MIXES = (# copying words of several tokens is what naming anything new is made of
         (500, 0.5, ((prompts.copies, 0.40), (prompts.repeat, 0.08), (prompts.word_list, 0.10), (prompts.told, 0.08),
                     (prompts.facts, 0.10), (prompts.sensor, 0.09), (prompts.check, 0.07), (prompts.sums, 0.08))),
         (math.inf, 0.4, ((prompts.sensor, 0.17), (prompts.check, 0.14), (prompts.in_range, 0.07), (prompts.facts, 0.14),
                          (prompts.told, 0.08), (prompts.copies, 0.08), (prompts.repeat, 0.06), (prompts.word_list, 0.11),
                          (prompts.arithmetic, 0.05), (prompts.sums, 0.10))))


@torch.no_grad()
def widened(first, kept, rng):
    """The model `first` at twice its hidden size, with the experts `kept` [layers][experts]; computes the same.

    Every channel is there twice, so that norms and what is written to the stream keep their values; what reads the
    stream divides each weight between the two, unevenly, so that training can tell them apart.
    """
    model = Model(SECOND)
    def readers(w):
        part = 0.5 + 0.3 * (torch.rand(w.shape, generator=rng) - 0.5)
        return torch.cat((w * part, w * (1 - part)), -1)
    writers = lambda w: torch.cat((w, w), 0)
    model.embed.copy_(torch.cat((first.embed, first.embed), 1))
    model.head.copy_(readers(first.head))
    model.norm.copy_(torch.cat((first.norm, first.norm)))
    for old, new, stay in zip(first.layers, model.layers, kept):
        for name in ("norm_in", "norm_post"):
            getattr(new, name).copy_(torch.cat((getattr(old, name),) * 2))
        for name in ("q_norm", "k_norm"):
            getattr(new, name).copy_(getattr(old, name))
        for name in ("q", "k", "v"):
            getattr(new, name).copy_(readers(getattr(old, name)))
        new.o.copy_(writers(old.o))
        new.router.copy_(readers(old.router[stay]))
        new.gate_up.copy_(readers(old.gate_up[stay].mT).mT)
        down = old.down[stay]
        new.down.copy_(torch.cat((down, down), -1))
    return model


@torch.no_grad()
def busiest(model, rows, count):
    """[layers][count]: the experts of each layer that have most of the rows' gate weight."""
    sums = [torch.zeros(model.shape.experts) for _ in model.layers]
    for row in rows:
        _, chosen = measure.run_rows(model, [row])
        for layer, choice in enumerate(chosen):
            sums[layer] += torch.bincount(choice.flatten(), minlength=model.shape.experts)
    return [torch.sort(s.topk(count).indices).values for s in sums]


class Material(Batches):
    """Batches of the second stage: invented names, free ranges, and long rows with facts strewn among texts."""

    def __init__(self, tokenizer, arrays, texts, rows, seed):
        super().__init__(tokenizer, arrays, rows, measure.LENGTH, seed)
        self.names, self.texts = Names(texts), {k: v[0] for k, v in texts.items()}

    def turns(self):
        """One training conversation."""
        functions, shares = zip(*self.mix)
        while True:
            function = self.rng.choices(functions, shares)[0]
            known = self.rng.random() < KNOWN_SHARE
            lists = prompts.KNOWN if known else self.names.lists(self.rng)
            body, questions = function(self.rng, least=2, lists=lists, free=self.rng.random() < (0.1 if known else self.free))
            limit = self.rng.choice((1, 2, 3, 4))
            if not questions[0][2]:
                turns = [(q, a) for q, a, out in questions if not out][:limit]
                return [(body + turns[0][0], turns[0][1])] + turns[1:]

    def window(self, domain):
        """About 240 tokens of a training text."""
        text = self.texts[domain]
        at = self.rng.randrange(len(text) - 1200)
        return text[at:at + 900]

    def long_document(self, tokens):
        """(ids, weight of each) of a chat about a message of about so many tokens."""
        rng = self.rng
        lists = prompts.KNOWN if rng.random() < 0.3 else self.names.lists(rng)
        body, questions = strewn.strewn(rng, self.window, tokens, lists, rng.choice(data.DOMAINS), rng.randint(2, 8))
        rng.shuffle(questions)
        ids, weight = [], []
        for n, (question, answer) in enumerate(questions[:rng.randint(2, 4)]):
            head, tail = (self.tokenizer.encode(part).ids for part in
                          prompts.wrap(question if n else body + question, answer))
            ids += head + tail
            weight += [self.prompt_weight * (rng.random() < 0.3) for _ in head]
            weight += [self.answer_weight * 2] * (len(tail) - 1) + [self.prompt_weight]
        return ids, weight

    def long_batch(self):
        """One row of `LONG` tokens: whole documents, whose positions leap."""
        shape = (1, LONG)
        out = {"ids": np.zeros(shape, np.int64), "labels": np.zeros(shape, np.int64),
               "weight": np.zeros(shape, np.float32), "pos": np.zeros(shape, np.int64), "doc": np.zeros(shape, np.int64)}
        at, doc = 0, 0
        while LONG - at > 300:
            ids, weight = self.long_document(min(self.rng.choice((200, 400, 800, 1600)), LONG - at - 200))
            size = len(ids) - 1
            if size > LONG - at:
                continue
            here = slice(at, at + size)
            out["ids"][0, here], out["labels"][0, here] = ids[:-1], ids[1:]
            out["weight"][0, here] = weight[1:]
            out["pos"][0, here] = self.positions(size)
            out["doc"][0, here] = doc
            at, doc = at + size, doc + 1
        out["doc"][0, at:] = doc
        return out

    def positions(self, size):
        """0, 1, 2, …; in half of the documents with up to three leaps ("positional skip-wise training")."""
        steps = np.ones(size, np.int64)
        if self.rng.random() < 0.5:
            for _ in range(self.rng.randint(1, 3)):
                farthest = self.rng.choice((500, 2000, FARTHEST // 3))
                steps[self.rng.randrange(1, size)] += self.rng.randrange(farthest)
        steps[0] = 0
        return steps.cumsum()


def schedule(step, steps, peak):
    """Learning rate: warm-up, plateau, fall to a fiftieth."""
    at = step / steps
    if at < 0.02:
        return peak * (at + 1e-4) / 0.02
    if at < 0.45:
        return peak
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (at - 0.45) / 0.55)))


def train(args):
    """From the checkpoint of the work folder, or from the first stage's files."""
    torch.set_num_threads(args.threads)
    texts = data.load_texts(args.work)
    tokenizer = Tokenizer.from_file(str(args.first / "tokenizer.json"))
    material = Material(tokenizer, data.tokenise(args.work, tokenizer, texts), texts, args.rows, args.seed)
    path, step = args.work / "further.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=False)
        model = Model(SECOND)
        model.load_state_dict(state["model"])
        step = state["step"]
        material.restore(state["batches"])
    else:
        first = export.read(args.first)
        rows = [row[:-1] for group in measure.heldout_rows(tokenizer, args.first / "heldout").values() for row in group[:6]]
        rows += [tokenizer.encode(prompts.wrap(q, a)[0] + a).ids for items in prompts.test_items(12).values() for q, a in items]
        generator = torch.Generator().manual_seed(args.seed)
        model = widened(first, busiest(first, rows, SECOND.experts), generator)
    model.compute = fast_type()
    optimisers = new_optimisers(model, args.lr)
    if path.exists():
        for optimiser, saved_state in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved_state)
    print("%.2f million parameters, from step %d of %d" % (sum(p.numel() for p in model.parameters()) / 1e6, step, args.steps),
          flush=True)

    def save():
        save_atomic(path, {"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers],
                           "batches": material.state(), "step": step})

    saved = shown = time.time()
    sums, long_sums = np.zeros(4), np.zeros(4)
    while step < args.steps:
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = schedule(step, args.steps, args.lr)
        draw = random.Random(args.seed * 1_000_003 + step)
        top_k = draw.choice((4, 8, 16)) if draw.random() < 0.2 else None
        _, material.free, material.mix = next(mix for mix in MIXES if step < mix[0])
        long = step % LONG_EVERY == LONG_EVERY - 1
        batch = material.long_batch() if long else material.next(0.625)
        loss, figures = loss_of(model, {k: torch.from_numpy(v) for k, v in batch.items()}, top_k)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        if long:
            long_sums += figures
        else:
            sums += figures
        now = time.time()
        if step % 100 == 0:
            n = 100 / LONG_EVERY
            print("step %d text %.3f answers %.3f (%.3f right) balance %.2f; long: answers %.3f (%.3f right); %.2f s a step"
                  % (step, *(sums / (100 - n)), *(long_sums / n)[1:3], (now - shown) / 100), flush=True)
            sums, long_sums, shown = np.zeros(4), np.zeros(4), now
        if step % args.watch == 0:
            scores = {t: measure.share(measure.exact_match(model, tokenizer, items))
                      for t, items in prompts.test_items(50, names=material.names).items()}
            print("  ".join("%s %.2f" % s for s in scores.items()), flush=True)
            shown = time.time()
        if now - saved > 180:
            save()
            saved = now
    save()
    export.write_files(model, tokenizer, texts, args.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/sage-tiny")
    parser.add_argument("--first", type=Path, required=True, help="the first stage's checkpoint")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--rows", type=int, default=8, help="rows of %d tokens in a batch" % measure.LENGTH)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--watch", type=int, default=500, help="score the tasks every so many steps")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
