#!/usr/bin/env python3
"""Give the model in this folder ears: an audio tower, trained while the thinker stays as it is.

    pip install torch numpy tokenizers safetensors; apt-get install espeak-ng
    python3 models/tiny/ears.py train      make the speech, train, write the files
    python3 models/tiny/ears.py train --first FOLDER    the same from the tower of another thinker
    python3 models/tiny/ears.py measure    exact match on held-out voices
    python3 models/tiny/ears.py check      spectrogram and tower beside the reference implementation

An interrupted run continues from its last checkpoint in the work folder (`--work`, ~/.cache/sage-ears).
"""

import argparse
import dataclasses
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import ears_batches
import ears_data
import ears_export
import ears_follow
import export
from ears_batches import Batches, Speech
from ears_tower import Ears, Tower
from model import causal_mask
from muon import Muon
from train import save_atomic

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parents[1] / "tests/fixtures"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training with a rise and a fall of the rate of its own."""

    steps: int
    batches: tuple      # ((items, {kind: share}), ...), taken in turn
    rate: float
    warm: int           # steps of the rise
    last: float         # part of the rate that is left at the end
    said: float         # weight of what is said
    bag: float          # weight of what is said in any order
    large: float        # weight of rows being larger than embeddings
    answers: float      # weight of the thinker's answers
    top_k: int = 8      # experts of the thinker; half of them are half the work
    cut: int = 0        # steps that the rate was laid out for and that were not made


# first the words, near enough to those of the thinker; then what it makes of them
WORDS = (32, {"word": 0.8, "sound": 0.2})
SAID = (32, {"word": 0.4, "phrase": 0.25, "sound": 0.1, "question": 0.12, "fact": 0.13})
ALL = (24, {"word": 0.25, "phrase": 0.15, "sound": 0.1, "question": 0.3, "fact": 0.2})
SHORT = (32, {"word": 0.5, "phrase": 0.3, "sound": 0.2})
SOUNDS = (32, {"word": 0.45, "phrase": 0.25, "sound": 0.3})
LONG = (12, {"question": 0.6, "fact": 0.4})
STAGES = (Stage(600, (WORDS,), 2.5e-3, 20, 1.0, 0.3, 1.0, 0.0, 0.0),
          Stage(1800, (SAID,), 2.5e-3, 1, 0.4, 1.0, 0.3, 0.01, 0.0),
          Stage(54, (ALL,), 1.5e-3, 20, 1.0, 0.3, 0.0, 0.01, 1.0, 4),
          Stage(602, (SHORT, LONG), 1.5e-3, 1, 0.4, 0.3, 0.0, 0.01, 1.0, 4, cut=198),
          Stage(240, (SOUNDS, LONG), 1.2e-3, 1, 0.01, 0.2, 0.0, 0.01, 1.0, 4, cut=20),
          Stage(442, (SOUNDS, SOUNDS, LONG), 2e-3, 30, 1.0, 0.3, 0.0, 0.01, 1.0, 4),
          Stage(150, (SOUNDS, SOUNDS, LONG), 1.5e-3, 1, 0.01, 0.3, 0.0, 0.01, 1.0, 4))
# after the thinker was trained further: the tower heard already, and has to be understood
FOLLOW = (Stage(120, (SAID,), 1.2e-3, 20, 1.0, 0.3, 0.1, 0.01, 0.0),
          Stage(420, (SOUNDS, SOUNDS, LONG), 2e-3, 30, 0.4, 0.3, 0.0, 0.01, 1.0, 4),
          Stage(120, (SOUNDS, SOUNDS, LONG), 1e-3, 1, 0.01, 0.3, 0.0, 0.01, 1.0))
BLANK = ears_batches.PAD         # the row of a moment in which no word ends looks like <|audio_pad|>
SHARP, SIZE = 4.0, 9.0      # distances that make a difference; a row is not to be larger than this
CASES = ("sounds/word-pump.wav", "sounds/question-1.wav", "sounds/siren-loud.wav")


def stage_of(step, stages):
    """(stage, steps of it that are done)."""
    for stage in stages:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    raise ValueError(step)


def rate_at(stage, done):
    """Rise, plateau, fall."""
    fall = 0.5 * (1 + math.cos(math.pi * max(0, done / (stage.steps + stage.cut) - 0.4) / 0.6))
    return stage.rate * min(1, (done + 1) / stage.warm) * (stage.last + (1 - stage.last) * fall)


def new_optimisers(tower):
    """Muon for the matrices between input and output, AdamW for the rest."""
    inner = [p for n, p in tower.named_parameters() if p.dim() == 2 and not n.startswith("proj2")]
    mine = {id(p) for p in inner}
    decay = [p for p in tower.parameters() if p.dim() > 1 and id(p) not in mine]
    keep = [p for p in tower.parameters() if p.dim() == 1]
    return [torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": keep, "weight_decay": 0.0}],
                              lr=0.0, betas=(0.9, 0.98), fused=True), Muon(inner, 0.0, weight_decay=0.05)]


@torch.no_grad()
def start(tower, mel, blank):
    """Scale the first matrices by what a batch makes of them.

    As PyTorch draws them the sound arrives at the layers a hundred times weaker than the sinusoids,
    and thousands of steps go by before it is heard.  The rows begin as `blank`.
    """
    x = mel.unsqueeze(1)
    for conv in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        y = conv(x)
        centre = y.mean((0, 2, 3))
        conv.weight.div_(y.std((0, 2, 3))[:, None, None, None])
        conv.bias.copy_((conv.bias - centre) / y.std((0, 2, 3)))
        x = F.gelu(conv(x))
    y = tower.conv_out(x.permute(0, 3, 1, 2).flatten(2))
    tower.conv_out.weight.div_((y - y.mean((0, 1))).std())
    tower.proj2.bias.copy_(blank)
    tower.proj2.weight.mul_(3)


def said_loss(rows, embed, items, classes):
    """(CTC: the rows, one after the other, are near the embeddings of what is said; and that their mean is).

    The second has no order to find, and so tells the first what to look for.
    """
    place = {c: n for n, c in enumerate(classes.tolist())}
    near = embed[classes]
    logits = (rows @ near.t() - 0.5 * (near * near).sum(1)) / SHARP
    labels = [[place[i] for i in item[3]] for item in items]
    sizes = torch.tensor([len(x) for x in labels])
    ordered = F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), torch.tensor(sum(labels, [])),
                         torch.full((len(items),), rows.shape[1]), sizes, blank=place[BLANK], zero_infinity=True)
    wanted = torch.zeros(len(items), len(classes))
    for row, mine in zip(wanted, labels):
        row[mine] = 1
    mean = logits.mean(1)
    mean[:, place[BLANK]] = -1e4
    return ordered, -(wanted / wanted.sum(1, keepdim=True) * mean.log_softmax(-1)).sum(1).mean()


def answers(thinker, rows, items, top_k=None):
    """Logits and labels of the answers' tokens; rows [items, tokens, hidden]."""
    parts, spans, labels = [], [], []
    for row, (head, tail, answer, _) in zip(rows, items):
        look = lambda ids: F.embedding(torch.tensor(ids), thinker.embed)
        part = torch.cat((look(head), row, look(tail + answer[:-1])))
        spans.append((len(part) - len(answer), len(part)))
        parts.append(part)
        labels += answer
    size = max(map(len, parts))
    x = torch.stack([F.pad(p, (0, 0, 0, size - len(p))) for p in parts])
    pos = torch.arange(size).expand(len(parts), -1)
    hidden, _, _ = thinker.from_rows(x, pos, causal_mask(torch.zeros(len(parts), size)), top_k)
    return F.linear(torch.cat([h[a:b] for h, (a, b) in zip(hidden, spans)]), thinker.head), torch.tensor(labels)


def new_tower(thinker):
    """A tower for a thinker of this shape."""
    return Tower(Ears(output_dim=thinker.hidden))


def classes_of(tokenizer):
    """Ids that can be said, and the blank one."""
    said = ears_data.SINGLE + list(ears_data.SOUNDS) + ears_batches.everything_said()
    return torch.tensor(sorted({i for text in said for i in tokenizer.encode(" " + text).ids} | {BLANK}))


def train(args):
    """Train the tower for args.steps, from its checkpoint if there is one."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    speech = Speech(args.work, False, args.part)
    thinker = export.read(HERE).requires_grad_(False)
    batches, classes = Batches(tokenizer, speech, args.seed), classes_of(tokenizer)
    path, step, used = args.work / "tower.pt", 0, 0.0
    if args.first:
        stages = FOLLOW
        tower = ears_follow.followed(ears_export.read(args.first), export.read(args.first), thinker, classes)
    else:
        stages, tower = STAGES, new_tower(thinker.shape)
        start(tower, torch.from_numpy(batches.next(0, *WORDS)["mel"]), thinker.embed[BLANK])
    steps = sum(s.steps for s in stages)
    optimisers = new_optimisers(tower)
    if path.exists():
        state = torch.load(path, weights_only=False)
        tower.load_state_dict(state["tower"])
        step, used = state["step"], state["used"]
        for optimiser, saved_state in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved_state)
    print("tower: %.2f million parameters, from step %d of %d"
          % (sum(p.numel() for p in tower.parameters()) / 1e6, step, steps), flush=True)
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue(6)
    batches_of = lambda n: stage_of(n, stages)[0].batches
    plan = [(n,) + batches_of(n)[n % len(batches_of(n))] for n in range(step, steps)]
    maker = context.Process(target=ears_batches.work_ahead, args=(queue, batches, plan),
                            daemon=True)
    maker.start()

    def save():
        save_atomic(path, {"tower": tower.state_dict(), "optimisers": [o.state_dict() for o in optimisers],
                           "step": step, "used": used})

    last = saved = time.time()
    sums = np.zeros(5)
    while step < steps:
        stage, done = stage_of(step, stages)
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = rate_at(stage, done)
        batch = queue.get()
        rows = tower(list(torch.from_numpy(batch["mel"]))).unflatten(0, (len(batch["items"]), -1))
        said, bag = said_loss(rows, thinker.embed, batch["items"], classes)
        answer, right = torch.zeros(()), torch.zeros(())
        if stage.answers:
            logits, labels = answers(thinker, rows, batch["items"], stage.top_k)
            answer, right = F.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()
        loss = stage.answers * answer + stage.said * said + stage.bag * bag \
            + stage.large * (rows.norm(dim=-1) - SIZE).relu().square().mean()
        tower.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        sums += [answer.item(), said.item(), right.item(), rows.norm(dim=-1).mean().item(),
                 bag.item()]
        now = time.time()
        used, last = used + now - last, now
        if step % args.show == 0:
            print("%5.1f min step %d answers %.3f (%.3f right) said %.3f in any order %.3f size %.1f waiting %d"
                  % (used / 60, step, *(sums / args.show)[[0, 2, 1, 4, 3]], queue.qsize()), flush=True)
            sums = np.zeros(5)
        if now - saved > 60:
            save()
            saved = now
    save()
    maker.join()


@torch.no_grad()
def exact_match(tower, thinker, tokenizer, items):
    """[bool]: whether the greedy answer is the right one; items are (samples, before, after, answer).

    Every clip is a call of its own.
    """
    good = []
    for at in range(0, len(items), 16):
        rows, written = [], []
        for samples, before, after, answer in items[at:at + 16]:
            rows.append(tower([ears_data.log_mel(samples[None])[0]]))
            written.append(ears_batches.wrap(tokenizer, before, after)
                           + (tokenizer.encode(answer + "<|im_end|>").ids, []))
        logits, labels = answers(thinker, rows, written)
        same = logits.argmax(1) == labels
        good += [bool(part.all()) for part in same.split([len(w[2]) for w in written])]
    return good


def held_items(speech, kind, count, how, seed=11):
    """[(samples, before, after, answer)] by held-out voices; `how`: "clear", "as trained", "unheard"."""
    rng, noise, out = random.Random(seed), np.random.default_rng(seed), []
    name, _, form = kind.partition(", ")
    pool = [i for i in speech.kinds.get(name, []) if form != "number" or i["text"].isdigit()]
    if form == "word":
        pool = [i for i in pool if not i["text"].isdigit()]
    some = rng.sample(pool, min(count, len(pool))) if name not in ("question", "sound") else [None] * count
    for n, item in enumerate(some):
        item = ears_data.SOUNDS[n % len(ears_data.SOUNDS)] if name == "sound" else item
        before, what, after, answer, _ = ears_batches.draw(rng, name, speech, True, item)
        if name == "sound":
            size = ears_data.HOP * rng.randint(50, 200)
            samples = ears_data.hear_sound(what, noise, size) if how != "unheard" else np.zeros(size)
        else:
            sound = speech.sound(what)
            size = ears_data.HOP * (int(len(sound) * 1.09) // ears_data.HOP + rng.randint(5, 40))
            samples = ears_data.place(noise, sound, size) if how == "as trained" else np.zeros(size)
            if how == "clear":
                samples[800:800 + len(sound)] = sound[:size - 800]
        out.append((samples, before, after, answer))
    return out


def measure(args):
    """The table of README.md."""
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    thinker, speech = export.read(HERE).requires_grad_(False), Speech(args.work, True)
    tower = ears_export.read(HERE) if args.what == "measure" else trained(args.work)
    print("| task | items | clear | as trained | unheard |\n|---|---|---|---|---|")
    for kind in ("word, word", "word, number", "phrase", "question", "fact", "sound"):
        parts = []
        for how in ("clear", "as trained", "unheard"):
            items = held_items(speech, kind, args.items, how)
            flags = exact_match(tower, thinker, tokenizer, items)
            parts.append("%.1f" % (100 * sum(flags) / len(flags)) if (kind, how) != ("sound", "clear") else "")
        print("| %s | %d | %s |" % (kind.split(", ")[-1], len(items), " | ".join(parts)), flush=True)
    if args.what == "measure":
        measure_sounds(tower, thinker, tokenizer)


def measure_sounds(tower, thinker, tokenizer):
    """How many of sounds/ are answered right."""
    kinds = {}
    for task, samples, before, after, answer, file in ears_export.heard(HERE):
        flag = exact_match(tower, thinker, tokenizer, [(samples, before, after, answer)])[0]
        kinds.setdefault(task, []).append((flag, file))
    for task, flags in kinds.items():
        print("sounds/ %s: %d of %d%s" % (task, sum(f for f, _ in flags), len(flags),
                                          "".join(", not " + n for f, n in flags if not f)))


def trained(work):
    """The tower of the last checkpoint, rounded as it is stored."""
    tower = new_tower(export.read_shape(HERE))
    tower.load_state_dict(torch.load(work / "tower.pt", weights_only=False)["tower"])
    return rounded(tower)


@torch.no_grad()
def rounded(tower):
    """The tower with its weights rounded as they are stored."""
    for p in tower.parameters():
        p.copy_(p.to(torch.bfloat16).float())
    return tower


def write(args):
    """The files of models/tiny and tests/fixtures/ears."""
    ears_export.write(trained(args.work), HERE)
    if not args.first:
        ears_export.write_sounds(Speech(args.work, True), HERE)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    ears_export.write_cases(ears_export.read(HERE), export.read(HERE).requires_grad_(False), tokenizer, HERE,
                            FIXTURES / "ears", CASES)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "measure", "watch", "export", "check"),
                        help="watch: measure the last checkpoint; export: write its files (train does it at its end); "
                             "check: hold the code to recorded results of the reference implementation")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/sage-ears")
    parser.add_argument("--first", type=Path, help="train on from the tower in this folder, of the thinker that lies there too")
    parser.add_argument("--part", type=int, default=1, help="make one in so many of the utterances only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--items", type=int, default=300, help="of each task, at most")
    parser.add_argument("--show", type=int, default=50, help="print a line every so many steps")
    args = parser.parse_args()
    if args.what == "train":
        train(args)
    if args.what in ("train", "export"):
        write(args)
    if args.what in ("measure", "watch"):
        measure(args)
    if args.what == "check":
        ears_export.check(FIXTURES)


if __name__ == "__main__":
    main()
