"""Facts told once within other texts, and asked about at the end: what a long context is for.

A document is a chat: one message of sentences of one or several domains with facts among them and a question, and
perhaps further questions. Half of the facts are told as `prompts.facts` tells them, half in the register of the text
around them.
"""

import re

import prompts

REGISTERS = {       # kind: statements that stand in a text of the domain
    "kjv": {"colour": ("And the {thing} of {who} was {what}.", "Now {who} had a {thing}, and the {thing} was {what}."),
            "city": ("And {who} dwelt in {what}.", "Then went {who} up, and abode in {what}."),
            "animal": ("And {who} had a {what}.", "Now there was a {what}, which {who} kept."),
            "code": ("And the code of {who} was {what}.", "And {who} said, My code is {what}.")},
    "austen": {"colour": ("The {thing} of {who} was of a very becoming {what}.",
                          "{who} was never seen without a {what} {thing}."),
               "city": ("{who} had been settled in {what} above a twelvemonth.",
                        "It was generally known that {who} lived in {what}."),
               "animal": ("{who} had a {what}, and was excessively fond of it.",
                          "Nothing would satisfy {who} but to keep a {what}."),
               "code": ("{who} assured them that the code was {what}.", "The code of {who}, it appeared, was {what}.")},
    "python": {"colour": ("# the {thing} of {who} is {what}", "# {who}: {what} {thing}"),
               "city": ("# {who} works from {what}", "# {who} lives in {what}"),
               "animal": ("# {who} has a {what}", "# {who} keeps a {what} at home"),
               "code": ("# code of {who}: {what}", "# {who} uses code {what}")},
    "dialogue": {"colour": ("btw {who}'s {thing} is {what}", "I saw that {who} has a {what} {thing} haha"),
                 "city": ("I heard that {who} lives in {what} now", "my friend {who} is from {what}"),
                 "animal": ("{who} has a {what}, so cute", "did you know {who} got a {what}?"),
                 "code": ("the code of {who} is {what}", "{who} told me the code is {what}")}}
REGISTERS["spanish"] = REGISTERS["kjv"]


def pieces(text):
    """Sentences and lines of a text, without the marks of a chat."""
    text = re.sub(r"<\|im_(?:start|end)\|>(?:user\n|assistant\n)?", "", text).replace("<|endoftext|>", "\n")
    return [p for p in re.split(r"(?<=[.!?;:])\s+|\n+", text) if len(p.split()) > 2][1:-1]


def told_fact(rng, domain, kind, lists, who, what):
    """(sentence, [(question, answer)]) of one fact."""
    plain, about_person, about_thing = prompts.FACTS[kind]
    forms = plain if rng.random() < 0.5 else REGISTERS[domain][kind]
    names = {"who": who, "what": what, "thing": rng.choice(lists.objects)}
    questions = [(q.format(**names), what) for q in about_person] + [(q.format(**names), who) for q in about_thing]
    return rng.choice(forms).format(**names), questions


def strewn(rng, window, tokens, lists, domain, facts):
    """(message without its question, [(question, answer)] in the order told).

    `window(domain)` gives the text of some hundred tokens of a domain; about `tokens` tokens of them are taken.
    """
    said = []
    for _ in range(max(1, tokens // 240)):
        said += pieces(window(domain))
    kinds = list(prompts.FACTS)
    people, cities, animals = (rng.sample(group, len(group)) for group in (lists.names, lists.cities, lists.animals))
    questions = []
    places = sorted(rng.sample(range(len(said) + 1), min(facts, len(said) + 1)), reverse=True)
    for n, place in enumerate(places):
        kind = rng.choice(kinds)
        what = {"colour": rng.choice(lists.colours), "city": cities[n % len(cities)],
                "animal": animals[n % len(animals)], "code": str(rng.randint(10, 9999))}[kind]
        sentence, asked = told_fact(rng, domain, kind, lists, people[n % len(people)], what)
        said.insert(place, sentence)
        questions.insert(0, rng.choice(asked))
    join = "\n" if domain in ("python", "dialogue") else " "
    return join.join(said) + "\n", questions
