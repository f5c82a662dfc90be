"""What the ears practise: sounds with a written part, and the answer of the thinker.

An item is (before, sound, after, answer, said): the user's message is the text before, the sound and the text
after it; `said` are the words of the sound, or its name.
"""

import random
import re

import numpy as np
import torch

import ears_data
import prompts

PAD = 4092              # <|audio_pad|>
REPEAT, HEAR = "Repeat:", "What do you hear?"


class Speech:
    """The utterances of one side, by kind and by text."""

    def __init__(self, work, held, part=1):
        self.samples, self.items = ears_data.make_speech(work, held, part)
        self.kinds, self.texts = {}, {}
        for item in self.items:
            self.kinds.setdefault(item["kind"], []).append(item)
            self.texts.setdefault(item["text"], []).append(item)

    def sound(self, item):
        """Samples of an utterance in [-1, 1]."""
        return self.samples[item["at"]:item["at"] + item["size"]] / 32768.0


def others(rng, item):
    """Up to three written facts about other people and things than the spoken one; or nothing."""
    if rng.random() < 0.4:
        return ""
    words = set(re.findall(r"\w+", item["text"])) & set(prompts.VOCABULARY)
    while True:
        body, _ = prompts.facts(rng, 1)
        if body.count(".") <= 3 and not words & set(re.findall(r"\w+", body)):
            return body


def asked(rng, speech, held):
    """(body, question, answer) of a written context whose question is spoken."""
    while True:
        task = rng.choice((prompts.facts, prompts.facts, prompts.sensor, prompts.in_range, prompts.check))
        body, questions = task(rng, least=2)
        question, answer, unseen = questions[0]
        if unseen == held and question in speech.texts:
            return body, question, answer


def draw(rng, kind, speech, held=False, item=None):
    """(before, utterance or name of a sound, after, answer, said)."""
    if kind == "sound":
        name = item or rng.choice(ears_data.SOUNDS)
        return "", name, HEAR, name, name
    if kind == "question":
        body, question, answer = asked(rng, speech, held)
        return body, rng.choice(speech.texts[question]), "", answer, question
    item = item or rng.choice(speech.kinds[kind])
    if kind == "fact":
        return others(rng, item), item, "\n" + item["question"], item["answer"], item["text"]
    before, after = rng.choice(((REPEAT, ""), ("", HEAR)))
    return before, item, after, item["text"], item["text"]


class Batches:
    """Batch n of a run depends on the seed and n only.  All its clips have one length: each is a call of its own."""

    def __init__(self, tokenizer, speech, seed):
        self.tokenizer, self.speech, self.seed = tokenizer, speech, seed

    def ids(self, text):
        return self.tokenizer.encode(text).ids

    def next(self, step, count, mix):
        """Draws more items than are needed and takes neighbours in length."""
        rng = random.Random(self.seed * 1_000_003 + step)
        noise = np.random.default_rng((self.seed, step))
        kinds, shares = zip(*mix.items())
        drawn = [draw(rng, k, self.speech) for k in rng.choices(kinds, shares, k=3 * count)]
        size = lambda d: rng.randint(8000, 32000) if isinstance(d[1], str) else int(d[1]["size"] * 1.09)
        drawn = sorted(((size(d), n, d) for n, d in enumerate(drawn)))
        at = rng.choice((0, rng.randint(0, 2 * count), 2 * count))
        chosen = drawn[at:at + count]
        length = ears_data.HOP * (chosen[-1][0] // ears_data.HOP + rng.randint(1, 45))
        clips = []
        for _, _, (_, what, *_rest) in chosen:
            if isinstance(what, str):
                clips.append(ears_data.hear_sound(what, noise, length))
            else:
                clips.append(ears_data.place(noise, self.speech.sound(what), length))
        mel = ears_data.log_mel(np.stack(clips))
        for row in mel:                 # a band and a moment may be missing
            if rng.random() < 0.4:
                low, wide = rng.randint(0, 127), rng.randint(1, 20)
                row[low:low + wide] = row.mean()
            if rng.random() < 0.2:
                low = rng.randint(0, mel.shape[2] - 1)
                row[:, low:low + rng.randint(1, 6)] = row.mean()
        return {"mel": mel.numpy(), "items": [self.written(d[2]) for d in chosen]}

    def written(self, item):
        """(ids before the rows, ids after them, answer ids, ids of what is said)."""
        before, _, after, answer, said = item
        return wrap(self.tokenizer, before, after) + (self.ids(answer + "<|im_end|>"), self.ids(" " + said))


def wrap(tokenizer, before, after):
    """Ids of the chat template before and after the rows of a sound."""
    head, tail = prompts.wrap(before + "<|audio_start|><|audio_pad|><|audio_end|>" + after)[0].split("<|audio_pad|>")
    return tokenizer.encode(head).ids, tokenizer.encode(tail).ids


def work_ahead(queue, make, steps):
    """Body of a process that makes batches before they are asked for."""
    torch.set_num_threads(1)
    for step, count, mix in steps:
        queue.put(make.next(step, count, mix))


def everything_said():
    """Texts that hold every token of questions and facts."""
    rng = random.Random(1)
    return ears_data.questions_of() + [ears_data.fact_of(rng)[0] for _ in range(3000)]
