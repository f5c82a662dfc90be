"""Generated question-and-answer tasks whose answers can be checked.

A task is a function of a random generator that returns (body, [(question, answer,
held_out)]): a context and the questions that may be asked about it in turn.

Two things are held out of training. By value: `held_out` is decided by a hash of what
makes the item what it is (the value and range of the sensor, the asked fact, the list,
the operands). By template: of the combinations of a task's wordings, those in `NEW`
never occur in training; `new=True` draws only them.
"""

import random
import re
import typing
import zlib

SENSORS = ("pump boiler valve fan motor tank pipe oven heater cooler turbine battery "
           "filter mixer press engine reactor freezer rotor furnace").split()
NAMES = ("Anna Tom Maria Paul Clara Peter Emma David Laura Simon Julia Martin Sarah "
         "Adam Lucy Mark Helen Victor Rosa Oscar").split()
COLOURS = "red blue green black white yellow brown orange purple grey".split()
OBJECTS = "key box car door hat bag cup book ball lamp".split()
CITIES = ("Paris London Rome Madrid Berlin Vienna Lisbon Dublin Oslo Prague Milan "
          "Athens").split()
ANIMALS = "dog cat horse bird fish cow sheep duck goat rabbit mouse snake".split()
WORDS = ("sun sea map ice pen oak ant bus sky egg "
         "tree moon rain wind snow road hill lake ship gold "
         "river stone apple bread cloud grass house light night water "
         "garden window silver forest bridge summer winter island "
         "chicken blanket journey kitchen village "
         "mountain elephant hospital umbrella").split()
VOCABULARY = SENSORS + NAMES + COLOURS + OBJECTS + CITIES + ANIMALS + WORDS


class Lists(typing.NamedTuple):
    """What a task's names are drawn from."""

    sensors: list
    names: list
    colours: list
    objects: list
    cities: list
    animals: list
    words: list


KNOWN = Lists(SENSORS, NAMES, COLOURS, OBJECTS, CITIES, ANIMALS, WORDS)

READINGS = ("{n} {v}", "{n}: {v}", "{n} = {v}", "{n} at {v}", "{n} reads {v}")
RANGES = (" ({lo}-{hi})", ", range {lo}-{hi}", " [{lo}, {hi}]", " ({lo} to {hi})", ", min {lo}, max {hi}")
SENSOR_QUESTIONS = ("Which sensor is out of range?", "Name the sensor out of range.")
FACTS = {       # kind: (statements, questions about the person, questions about the thing)
    "colour": (("The {thing} of {who} is {what}.", "{who}'s {thing} is {what}."),
               ("What colour is the {thing} of {who}?", "What colour is {who}'s {thing}?"), ()),
    "city": (("{who} lives in {what}.", "The home of {who} is {what}."),
             ("Where does {who} live?", "In which city does {who} live?"), ()),
    "animal": (("{who} has a {what}.", "{who} owns a {what}."),
               ("What does {who} have?", "Which animal does {who} own?"),
               ("Who has a {what}?", "Who owns a {what}?")),
    "code": (("The code of {who} is {what}.", "{who}'s code is {what}."),
             ("What is the code of {who}?", "What is {who}'s code?"), ())}
LISTS = ("Say the {k} word: {words}.", "{words}. What is the {k} word?", "Words: {words}\nGive the {k} word.")
KINDS = ("first", "second", "third", "last", "longest")
SUMS = ("What is {e}?", "{e} = ?", "Compute {e}.")
# combinations (indices into the wordings above) that training never shows
NEW = {"sensor": {(0, 3), (1, 2), (2, 3), (3, 1), (4, 0)},      # (reading, range)
       "facts": {(0, 1)},                                       # (statement, question)
       "list": {("first", 1), ("second", 2), ("third", 0), ("last", 2), ("longest", 1)},
       "arithmetic": {(2, "plus"), (2, "minus"), (1, "plus"), (1, "minus")}}
HELD_OUT_ONE_IN = 10


def held_out(*key):
    """True for the tenth of all items that is kept out of training."""
    return zlib.crc32("|".join(map(str, key)).encode()) % HELD_OUT_ONE_IN == 0


def pick(rng, task, combinations, new):
    """One of the combinations, from those of training or from the others."""
    return rng.choice([c for c in combinations if (c in NEW[task]) == new])


def draw_range(rng, free=False):
    """A range between multiples of ten, at least twenty wide; a `free` one has any ends below 1,000."""
    if free:
        most = rng.choice((99, 99, 999))
        low = rng.randint(0, most - 10)
        return low, rng.randint(low + 3, most)
    low = rng.randint(2, 6)
    return 10 * low, 10 * rng.randint(low + 2, 9)


def draw_value(rng, low, high, inside, free=False):
    """A two-digit reading, or any below 1,000; the ends of the range are inside."""
    if inside:
        return rng.randint(low, high)
    least, most = (0, 99 if high <= 99 else 999) if free else (10, 99)
    sides = [side for side in (range(least, low), range(high + 1, most + 1)) if side]
    if not sides:
        return high + rng.randint(1, 99)
    side = rng.choice(sides)
    if free and rng.random() < 0.4:         # close to the range: the ends have to be compared
        near = side[-12:] if side[0] == least and side[-1] < low else side[:12]
        return rng.choice(near)
    return rng.choice(side)


def readings(rng, count, bad, new, lists=KNOWN, free=False):
    """Lines of readings: (body, [(name, state, held_out)]); `bad` are the indices outside."""
    first, second = pick(rng, "sensor", [(a, b) for a in range(5) for b in range(5)], new)
    common = draw_range(rng, free) if not new and rng.random() < 0.12 else None
    lines, out = [], []
    for i, name in enumerate(rng.sample(lists.sensors, count)):
        low, high = common or draw_range(rng, free)
        value = draw_value(rng, low, high, i not in bad, free)
        form = READINGS[first] + ("" if common else RANGES[second])
        lines.append(form.format(n=name, v=value, lo=low, hi=high))
        state = "ok" if i not in bad else "low" if value < low else "high"
        out.append((name, state, held_out(value, low, high)))
    one_line = rng.random() < 0.25
    body = ("; ".join(lines) + ". ") if one_line else ("\n".join(lines) + "\n")
    if common:
        body = "Range %d-%d%s" % (*common, ". " if one_line else "\n") + body
    return body, out


def sensor(rng, least=3, new=False, lists=KNOWN, free=False):
    """Up to five readings, one out of range: which?  Then further questions about them."""
    count = rng.randint(max(least, 2), 5)
    bad = rng.randrange(count)
    body, states = readings(rng, count, {bad}, new, lists, free)
    questions = [("Is %s in range?" % n, "yes" if s == "ok" else "no", h) for n, s, h in states]
    questions.append(every_state(states))
    rng.shuffle(questions)
    return body, [(rng.choice(SENSOR_QUESTIONS), states[bad][0], states[bad][2])] + questions


def every_state(states):
    """The question for the state of each sensor."""
    return ("Check every sensor.", "\n".join("%s %s" % s[:2] for s in states), any(s[2] for s in states))


def check(rng, least=3, new=False, lists=KNOWN, free=False):
    """Any number of the readings may be out of range; the state of each is asked."""
    count = rng.randint(max(least, 2), 5)
    outside = {i for i in range(count) if rng.random() < 0.4}
    body, states = readings(rng, count, outside, new, lists, free)
    return body, [every_state(states)]


def in_range(rng, least=1, new=False, lists=KNOWN, free=False):
    """One to three readings and yes-or-no questions about them."""
    count = rng.choice((1, 1, 2, 3))
    outside = {i for i in range(count) if rng.random() < 0.5}
    body, states = readings(rng, count, outside, new, lists, free)
    questions = [("Is %s in range?" % n, "yes" if s == "ok" else "no", h) for n, s, h in states]
    rng.shuffle(questions)
    return body, questions


def facts(rng, least=3, new=False, lists=KNOWN, free=False):
    """Up to six facts, then questions that one of them answers."""
    count = rng.randint(least, 6)
    one_kind = rng.choice(list(FACTS)) if rng.random() < 0.5 else None
    animals, cities = rng.sample(lists.animals, count), rng.sample(lists.cities, count)
    body, questions = [], []
    for i, who in enumerate(rng.sample(lists.names, count)):
        kind = one_kind or rng.choice(list(FACTS))
        statements, about_person, about_thing = FACTS[kind]
        said, asked = pick(rng, "facts", [(a, b) for a in (0, 1) for b in (0, 1)], new)
        reverse = bool(about_thing) and rng.random() < 0.5
        names = {"who": who, "thing": rng.choice(lists.objects),
                 "what": {"colour": rng.choice(lists.colours), "city": cities[i], "animal": animals[i],
                          "code": str(rng.randint(10, 9999 if free else 99))}[kind]}
        body.append(statements[said].format(**names))
        question = (about_thing if reverse else about_person)[asked].format(**names)
        key = (kind, who, names["what"], names["thing"] if kind == "colour" else "")
        questions.append((question, who if reverse else names["what"], held_out(*key)))
    rng.shuffle(questions)
    join = "\n" if rng.random() < 0.3 else " "
    return join.join(body) + join, questions


def told(rng, least=2, new=False, lists=KNOWN, free=False):
    """Two to four facts, to be said again: which words belong together is learned from whole sentences."""
    while True:
        body, questions = facts(rng, 2, new, lists, free)
        said = re.split(r"(?<=\.)\s", body.strip())
        if len(said) <= 4:
            break
    people = [next(n for n in lists.names if re.search(r"\b%s\b" % n, fact)) for fact in said]
    # `questions` are shuffled: which facts are held out is asked of the fact itself
    kept = [q for q in questions if not q[2]]
    unseen = {w for w in people for q, answer, out in questions if out and (w in q or w == answer)}
    tell = [("Tell me about %s." % w, fact, False) for w, fact in zip(people, said) if w not in unseen]
    rng.shuffle(tell)
    turns = tell + kept or [("Tell me about %s." % people[0], said[0], True)]
    if rng.random() < 0.5:
        rng.shuffle(turns)
    return body, turns


def word_list(rng, least=3, new=False, lists=KNOWN, free=False):
    """Follow an instruction about a list of words."""
    words = rng.sample(lists.words, rng.randint(least, 6))
    lengths = sorted((len(w) for w in words), reverse=True)
    possible = [k for k in KINDS if (k != "third" or len(words) > 2) and (k != "longest" or lengths[0] > lengths[1])]
    answer = dict(zip(KINDS, words[:3]), last=words[-1], longest=max(words, key=len))
    text = ", ".join(words)
    form = rng.choice([n for n in range(len(LISTS)) if any(((k, n) in NEW["list"]) == new for k in possible)])
    kinds = [k for k in possible if ((k, form) in NEW["list"]) == new]
    rng.shuffle(kinds)
    first = (LISTS[form].format(k=kinds[0], words=text), answer[kinds[0]], held_out(kinds[0], text))
    if not new and form == 0 and rng.random() < 0.4:    # two other instructions, in one wording each
        at = rng.randrange(len(words) - 1)
        first = rng.choice((
            ("Reverse: %s." % text, ", ".join(words[::-1]), held_out("reverse", text)),
            ("Which word comes after %s: %s?" % (words[at], text), words[at + 1], held_out("after", at, text))))
    rest = [("Say the %s word." % k, answer[k], held_out(k, text)) for k in possible]
    rng.shuffle(rest)
    return "", [first] + rest


def repeat(rng, least=3, new=False, lists=KNOWN, free=False):
    """Say some words, names or numbers again."""
    words = rng.sample(rng.choice((lists.words, VOCABULARY if lists is KNOWN else lists.names)), rng.randint(least, 8))
    if rng.random() < 0.3:
        words = [str(rng.randint(10, 99)) for _ in words]
    text = rng.choice((" ", ", ")).join(words)
    return "", [("Repeat: " + text, text, held_out(text))]


def copies(rng, least=3, new=False, lists=KNOWN, free=False):
    """Say up to thirty words, names and numbers again: what copying names of several tokens is learned from."""
    pool = [w for group in lists for w in group]
    words = [str(rng.randint(0, 9999)) if rng.random() < 0.15 else rng.choice(pool) for _ in range(rng.randint(6, 30))]
    text = rng.choice((" ", ", ", "; ", "\n")).join(words)
    return "", [("Repeat: " + text, text, held_out(text))]


def draw_sum(rng):
    """(a, sign, b, result): whole numbers, results from 0 to 99; in two of five b has one digit."""
    a, b = rng.randint(0, 99), rng.randint(0, 9 if rng.random() < 0.4 else 99)
    if rng.random() < 0.5:
        if a + b > 99:
            a, b = 99 - a, 99 - b
        return (a, "+", b, a + b) if a + b <= 99 else draw_sum(rng)
    a, b = max(a, b), min(a, b)
    return a, "-", b, a - b


def arithmetic(rng, least=1, new=False, lists=KNOWN, free=False):
    """Sums and differences."""
    questions = []
    for _ in range(4):
        a, sign, b, result = draw_sum(rng)
        form, style = pick(rng, "arithmetic", [(n, s) for n in range(3) for s in ("sign", "plus", "minus")
                                               if s == "sign" or (s == "plus") == (sign == "+")], new)
        expression = "%d %s %d" % (a, sign if style == "sign" else style, b)
        questions.append((SUMS[form].format(e=expression), str(result), held_out(a, sign, b)))
    return "", questions


def sums(rng, least=1, new=False, lists=KNOWN, free=False):
    """Several sums in one line, answered in one: what arithmetic is mostly learned from."""
    drawn = [draw_sum(rng) for _ in range(rng.randint(3, 8))]
    question = "; ".join("%d %s %d" % d[:3] for d in drawn)
    return "", [(question, "; ".join(str(d[3]) for d in drawn), any(held_out(*d[:3]) for d in drawn))]


# [(until this step, share of the rows that hold tasks, [(task, share of the training
# documents)])]; after the last of them, LAST_MIX in LAST_SHARE of the rows.  Copying is learned
# first, from answers with many words; then comparing, from the state of every sensor; then
# what belongs to whom
MIXES = (
    (1500, 0.75, ((sensor, 0.20), (check, 0.14), (in_range, 0.08), (facts, 0.22), (repeat, 0.08),
            (word_list, 0.10), (arithmetic, 0.05), (sums, 0.13))),
    (3600, 0.75, ((sensor, 0.12), (check, 0.34), (in_range, 0.06), (facts, 0.17), (repeat, 0.03),
            (word_list, 0.07), (arithmetic, 0.04), (sums, 0.17))),
    (3950, 0.625, ((sensor, 0.24), (check, 0.12), (in_range, 0.07), (facts, 0.26), (repeat, 0.02),
            (word_list, 0.08), (arithmetic, 0.06), (sums, 0.15))),
    (5100, 0.625, ((sensor, 0.18), (check, 0.05), (in_range, 0.05), (facts, 0.48), (repeat, 0.04),
            (word_list, 0.05), (arithmetic, 0.04), (sums, 0.11))),
    (5117, 0.625, ((sensor, 0.24), (check, 0.08), (in_range, 0.08), (facts, 0.32), (repeat, 0.04),
            (word_list, 0.06), (arithmetic, 0.06), (sums, 0.12))),
    (6217, 0.75, ((sensor, 0.10), (check, 0.05), (in_range, 0.07), (facts, 0.15), (told, 0.43), (repeat, 0.03),
            (word_list, 0.05), (arithmetic, 0.05), (sums, 0.07))),
    (6700, 0.625, ((sensor, 0.16), (check, 0.08), (in_range, 0.10), (facts, 0.22), (told, 0.16), (repeat, 0.04),
            (word_list, 0.07), (arithmetic, 0.08), (sums, 0.09))))
LAST_SHARE, LAST_MIX = 0.5, ((sensor, 0.10), (check, 0.06), (in_range, 0.10), (facts, 0.30), (told, 0.22), (repeat, 0.03),
            (word_list, 0.07), (arithmetic, 0.06), (sums, 0.06))
TESTS = {"sensor": (sensor, False), "sensor_new_form": (sensor, True), "in_range": (in_range, False),
         "check": (check, False), "facts": (facts, False), "facts_new_form": (facts, True),
         "list": (word_list, False), "list_new_form": (word_list, True), "repeat": (repeat, False),
         "arithmetic": (arithmetic, False), "arithmetic_new_form": (arithmetic, True)}

# with names held out of training, with free ranges: (task, new names, free ranges)
NAMED = {"sensor_new_names": (sensor, True, False), "sensor_free_range": (sensor, False, True),
         "sensor_new_names_free_range": (sensor, True, True), "in_range_new_names": (in_range, True, False),
         "in_range_free_range": (in_range, False, True), "check_new_names": (check, True, False),
         "facts_new_names": (facts, True, False), "list_new_words": (word_list, True, False),
         "repeat_new_words": (repeat, True, False)}


def training_turns(rng, mix=MIXES[0][2]):
    """[(prompt, answer)]: one to four turns about one context, nothing held out."""
    functions, shares = zip(*mix)
    while True:
        function = rng.choices(functions, shares)[0]
        body, questions = function(rng, least=2)
        limit = rng.choice((1, 2, 3, 4))
        if questions[0][2]:
            continue
        turns = [(q, a) for q, a, out in questions if not out][:limit]
        return [(body + turns[0][0], turns[0][1])] + turns[1:]


def test_items(count, seed=20, names=None):
    """{task: [(prompt, answer)]}: single turns with held-out values only; those of `NAMED` where there are `names`."""
    out = {}
    tests = [(task, function, new, False, False) for task, (function, new) in TESTS.items()]
    tests += [(task, function, False, *how) for task, (function, *how) in NAMED.items() if names]
    for task, function, new, named, free in tests:
        rng, seen = random.Random(seed), {}
        while len(seen) < count:
            lists = names.lists(rng, unseen=True) if named else KNOWN
            body, questions = function(rng, new=new, lists=lists, free=free)
            question, answer, unseen = questions[0]
            if unseen:
                seen[body + question] = answer
        out[task] = list(seen.items())
    return out


def wrap(prompt, answer=None):
    """The chat template: text up to the answer, and the answer with its end."""
    head = "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n" % prompt
    return head, (None if answer is None else answer + "<|im_end|>\n")


if __name__ == "__main__":
    for name, items in test_items(3).items():
        print("==", name)
        for item in items:
            print(*item, sep="\n  -> ")
