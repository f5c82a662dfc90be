#!/usr/bin/env python3
"""Items for `sage recall`: facts told once among held-out texts, and questions about them when all is told.

    python3 models/tiny/recall.py --tokens 2000 --items 20 --out FILE.jsonl

The texts are those of `heldout/` (`--other`: held-out documents that are not in it), sentence by sentence in their order,
documents and domains drawn at random. Half of the items tell their facts plainly (`plain`), half in the register of the text
around them (`register`); half of each with names that training never showed.
"""

import argparse
import json
import random
from pathlib import Path

import data
import prompts
import strewn
from names import Names

HERE = Path(__file__).resolve().parent
RUN = 12            # sentences of one document in a row
PARAGRAPH = 6       # sentences of one observation


def documents(args):
    """{domain: [text]} of what training never showed."""
    if not args.other:
        return {path.stem: path.read_text("utf-8").split(data.SEPARATOR) for path in sorted((HERE / "heldout").glob("*.txt"))}
    folder, out = data.fetch(args.work), {}
    for domain in data.DOMAINS:
        docs, held, excerpts = data.READERS[domain](folder)
        taken = {excerpt[:200] for excerpt in excerpts}
        out[domain] = [docs[key] for key in docs if key in held and docs[key][:200] not in taken]
    return out


def item(rng, texts, lists, register, args):
    """One item: facts at random places of a stream of sentences."""
    said, tokens = [], 0
    while tokens < args.tokens:
        domain = rng.choice(data.DOMAINS)
        pieces = [p for p in strewn.pieces(rng.choice(texts[domain])) if len(p) < 400]
        at = rng.randrange(max(1, len(pieces) - RUN))
        for piece in pieces[at:at + RUN]:
            said.append((domain, piece))
            tokens += len(piece) / 3.2          # characters a token, about
    people, cities, animals = (rng.sample(group, len(group)) for group in (lists.names, lists.cities, lists.animals))
    questions, places = [], sorted(rng.sample(range(len(said)), args.facts), reverse=True)
    for n, place in enumerate(places):
        domain = said[place][0]
        kind = rng.choice(list(prompts.FACTS))
        what = {"colour": rng.choice(lists.colours), "city": cities[n], "animal": animals[n],
                "code": str(rng.randint(10, 99))}[kind]
        plain, about_person, _ = prompts.FACTS[kind]
        names = {"who": people[n], "what": what, "thing": rng.choice(lists.objects)}
        form = rng.choice(strewn.REGISTERS[domain][kind] if register else plain)
        said.insert(place, (domain, form.format(**names)))
        questions.append({"question": rng.choice(about_person).format(**names), "answer": what})
    rng.shuffle(questions)
    told = []
    for start in range(0, len(said), PARAGRAPH):
        part = said[start:start + PARAGRAPH]
        join = "\n" if part[0][0] in ("python", "dialogue") else " "
        told.append(join.join(piece for _, piece in part) + "\n")
    return {"group": "register" if register else "plain", "told": told, "questions": questions}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/sage-tiny")
    parser.add_argument("--other", action="store_true", help="held-out documents that are not in heldout/")
    parser.add_argument("--tokens", type=int, default=2000, help="of an item, about")
    parser.add_argument("--facts", type=int, default=6, help="of an item")
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    texts, names = documents(args), Names(data.load_texts(args.work))
    rng = random.Random(args.seed)
    lines = []
    for n in range(args.items):
        lists = names.lists(rng, unseen=True) if n % 4 < 2 else prompts.KNOWN
        lines.append(json.dumps(item(rng, texts, lists, n % 2 == 1, args), ensure_ascii=False))
    args.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
