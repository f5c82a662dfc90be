"""Training batches: rows of text windows and rows packed with chat tasks."""

import random

import numpy as np

import prompts
from data import DOMAINS

LOOK = 24      # documents to choose from for the rest of a row


class Batches:
    """Rows of `length` tokens: text windows, and rows packed with chat tasks.

    A batch is a dict of arrays [rows, length]: ids, labels (next token),
    weight (of the loss), pos (restarts with every document) and doc (number of
    the document in its row; attention does not cross documents).
    """

    def __init__(self, tokenizer, arrays, rows, length, seed, answer_weight=6.0, prompt_weight=0.5):
        self.tokenizer, self.arrays = tokenizer, arrays
        self.rows, self.length = rows, length
        self.rng = random.Random(seed)
        self.answer_weight, self.prompt_weight = answer_weight, prompt_weight
        self.stock, self.mix = [], prompts.MIXES[0][2]

    def refill(self):
        """Encode another 400 chat documents of one to four turns."""
        heads, answers, joins = [], [], []
        for _ in range(400):
            for turn, (prompt, answer) in enumerate(self.turns()):
                head, tail = prompts.wrap(prompt, answer)
                heads.append(head)
                answers.append(tail)
                joins.append(turn > 0)
        heads = self.tokenizer.encode_batch(heads)
        answers = self.tokenizer.encode_batch(answers)
        for head, answer, join in zip(heads, answers, joins):
            ids = head.ids + answer.ids
            # answer words and <|im_end|> count fully; of the rest, which is mostly
            # random, only a tenth of the tokens is looked at (and costs time)
            weight = [self.prompt_weight * (self.rng.random() < 0.1) for _ in head.ids]
            weight += [self.answer_weight] * (len(answer.ids) - 1) + [self.prompt_weight]
            if join:
                old = self.stock.pop()
                ids, weight = old[0] + ids, old[1] + weight
            self.stock.append((ids, weight))
        self.stock = [d for d in self.stock if len(d[0]) <= self.length + 1]
        self.rng.shuffle(self.stock)

    def turns(self):
        """One training conversation: [(prompt, answer)]."""
        return prompts.training_turns(self.rng, self.mix)

    def state(self):
        """What the next batches depend on."""
        return self.rng.getstate(), list(self.stock)

    def restore(self, state):
        """Go on from a `state`."""
        self.rng.setstate(state[0])
        self.stock = list(state[1])

    def task_row(self, out, row):
        """Fill one row with as many whole chat documents as fit."""
        at, doc = 0, 0
        while True:
            if len(self.stock) < LOOK:
                self.refill()
            room = self.length - at
            fits = [n for n in range(1, LOOK) if len(self.stock[-n][0]) - 1 <= room]
            if not fits:
                break
            # the first that fits, or the longest once little room is left: less padding
            best = fits[0] if room > self.length // 2 else max(fits, key=lambda n: len(self.stock[-n][0]))
            ids, weight = self.stock.pop(-best)
            size = len(ids) - 1
            here = slice(at, at + size)
            out["ids"][row, here] = ids[:-1]
            out["labels"][row, here] = ids[1:]
            out["weight"][row, here] = weight[1:]
            out["pos"][row, here] = np.arange(size)
            out["doc"][row, here] = doc
            at, doc = at + size, doc + 1
        out["doc"][row, at:] = doc

    def next(self, task_share=0.5):
        """The next mixed batch."""
        shape = (self.rows, self.length)
        out = {"ids": np.zeros(shape, np.int64), "labels": np.zeros(shape, np.int64),
               "weight": np.zeros(shape, np.float32), "pos": np.zeros(shape, np.int64),
               "doc": np.zeros(shape, np.int64)}
        tasks = round(self.rows * task_share)
        for row in range(self.rows):
            if row < tasks:
                self.task_row(out, row)
                continue
            array = self.arrays[self.rng.choice(DOMAINS)]
            start = self.rng.randrange(len(array) - self.length - 1)
            window = array[start:start + self.length + 1].astype(np.int64)
            out["ids"][row], out["labels"][row] = window[:-1], window[1:]
            out["weight"][row] = 1.0
            out["pos"][row] = np.arange(self.length)
        return out
