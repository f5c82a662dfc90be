"""Generated question-and-answer tasks whose answers can be checked.

Every task is a function of a random generator that returns (task, context,
[(question, answer, test)]).  `test` is decided by a hash of what makes the item
what it is (the value and range of the sensor, the asked fact, the list, the two
operands), so that a question of the test set cannot occur in training.
"""

import random
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
QUESTIONS = ("Which sensor is out of range?", "Name the sensor out of range.")
SENSOR_FORMS = ("{n} {v} ({lo}-{hi})", "{n}: {v}, range {lo}-{hi}")
NEW_SENSOR_FORM = "{n} = {v} ({lo} to {hi})"     # never used in training
TEST_ONE_IN = 10


def is_test(*key):
    """True for the tenth of all items that is kept out of training."""
    return zlib.crc32("|".join(map(str, key)).encode()) % TEST_ONE_IN == 0


def draw_range(rng):
    """A range between multiples of ten, at least twenty wide."""
    low = rng.randint(2, 6)
    return 10 * low, 10 * rng.randint(low + 2, 8)


def draw_value(rng, low, high, inside):
    """A two-digit reading; above the range it exceeds it by ten or more."""
    if inside:
        return rng.randint(low, high)
    below = list(range(10, low))
    above = list(range(high + 10, 100))
    side = below if not above or (below and rng.random() < 0.5) else above
    return rng.choice(side)


def sensor(rng, least=3, form=None):
    """Up to five readings, each with its allowed range; one is outside.

    Further questions ask whether one of the sensors is in range, or for the
    state of each."""
    count = rng.randint(max(least, 2), 5)
    names = rng.sample(SENSORS, count)
    bad = rng.randrange(count)
    style = rng.random()
    common = draw_range(rng) if form is None and style < 0.15 else None
    form = form or ("{n} {v}" if common else SENSOR_FORMS[style < 0.4])
    lines, questions, states, any_test = [], [], [], False
    for i, name in enumerate(names):
        low, high = common or draw_range(rng)
        value = draw_value(rng, low, high, i != bad)
        lines.append(form.format(n=name, v=value, lo=low, hi=high))
        test = is_test(value, low, high)
        any_test |= test
        states.append("%s %s" % (name, "ok" if i != bad else "low" if value < low else "high"))
        questions.append(("Is %s in range?" % name, "no" if i == bad else "yes", test))
        if i == bad:
            main = (rng.choice(QUESTIONS), name, test)
    one_line = rng.random() < 0.25
    body = ("; ".join(lines) + ". ") if one_line else ("\n".join(lines) + "\n")
    if common:
        body = "Range %d-%d%s" % (*common, ". " if one_line else "\n") + body
    questions.append(("Check every sensor.", "\n".join(states), any_test))
    rng.shuffle(questions)
    return "sensor", body, [main] + questions


def check(rng, least=3):
    """As `sensor`, but the state of every sensor is asked first."""
    _, body, questions = sensor(rng, least)
    questions.sort(key=lambda q: q[0] != "Check every sensor.")
    return "check", body, questions


def sensor_new_form(rng):
    """The sensor task written in a way that training never shows."""
    return ("sensor_new_form",) + sensor(rng, form=NEW_SENSOR_FORM)[1:]


def in_range(rng, least=1):
    """One to three readings and yes-or-no questions about them."""
    count = rng.choice((1, 1, 2, 3))
    form = SENSOR_FORMS[rng.random() < 0.4]
    body, questions = "", []
    for name in rng.sample(SENSORS, count):
        low, high = draw_range(rng)
        inside = rng.random() < 0.5
        value = draw_value(rng, low, high, inside)
        body += form.format(n=name, v=value, lo=low, hi=high) + "\n"
        questions.append(("Is %s in range?" % name, "yes" if inside else "no",
                          is_test(value, low, high)))
    rng.shuffle(questions)
    return "in_range", body, questions


def facts(rng, least=3):
    """Up to six facts, then questions that one of them answers."""
    count = rng.randint(least, 6)
    one_kind = rng.choice(("colour", "city", "animal", "code")) if rng.random() < 0.5 else None
    people = rng.sample(NAMES, count)
    animals = rng.sample(ANIMALS, count)
    cities = rng.sample(CITIES, count)
    body, questions = "", []
    for i, who in enumerate(people):
        kind = one_kind or rng.choice(("colour", "city", "animal", "code"))
        if kind == "colour":
            thing, answer = rng.choice(OBJECTS), rng.choice(COLOURS)
            fact = "The %s of %s is %s." % (thing, who, answer)
            question = "What colour is the %s of %s?" % (thing, who)
        elif kind == "city":
            answer = cities[i]
            fact, question = "%s lives in %s." % (who, answer), "Where does %s live?" % who
        elif kind == "code":
            answer = str(rng.randint(10, 99))
            fact, question = "The code of %s is %s." % (who, answer), "What is the code of %s?" % who
        elif rng.random() < 0.5:
            answer = animals[i]
            fact, question = "%s has a %s." % (who, answer), "What does %s have?" % who
        else:
            answer = who
            fact, question = "%s has a %s." % (who, animals[i]), "Who has a %s?" % animals[i]
        body += fact + " "
        questions.append((question, answer, is_test(fact)))
        if rng.random() < 0.15 and least < 3:       # in training only
            questions.append(("Tell me about %s." % who, fact, is_test(fact)))
    rng.shuffle(questions)
    return "facts", body, questions


def word_list(rng, least=3):
    """Pick the first, second, last or longest word of a list."""
    words = rng.sample(WORDS, rng.randint(max(least, 2), 6))
    lengths = sorted((len(w) for w in words), reverse=True)
    kinds = ["first", "second", "last"] + ["longest"] * (lengths[0] > lengths[1])
    rng.shuffle(kinds)
    answer = {"first": words[0], "second": words[1], "last": words[-1],
              "longest": max(words, key=len)}
    text = ", ".join(words)
    questions = [("Say the %s word." % k, answer[k], is_test(k, text)) for k in kinds]
    first = ("Say the %s word: %s." % (kinds[0], text),) + questions[0][1:]
    return "list", "", [first] + questions[1:]


def repeat(rng, least=3):
    """Say some words, names or numbers again."""
    pool = rng.choice((WORDS, WORDS + NAMES + SENSORS + COLOURS + ANIMALS + CITIES + OBJECTS))
    words = rng.sample(pool, rng.randint(least, 8))
    if rng.random() < 0.3:
        words = [str(rng.randint(10, 99)) for _ in words]
    text = rng.choice((" ", ", ")).join(words)
    return "repeat", "", [("Repeat: " + text, text, is_test(text))]


def arithmetic(rng, least=1):
    """Sums and differences of whole numbers with results from 0 to 99."""
    questions = []
    for _ in range(4):
        a, b = rng.randint(0, 99), rng.randint(0, 99)
        if rng.random() < 0.5:
            if a + b > 99:
                a, b = 99 - a, 99 - b
            sign, result = "+", a + b
        else:
            a, b = max(a, b), min(a, b)
            sign, result = "-", a - b
        if 0 <= result <= 99:
            questions.append(("What is %d %s %d?" % (a, sign, b), str(result), is_test(a, sign, b)))
    return "arithmetic", "", questions or arithmetic(rng)[2]


# task function, share of the training documents: early, when copying and comparing
# are learned from answers with many words, and later
EARLY_MIX = ((sensor, 0.26), (check, 0.12), (in_range, 0.08), (facts, 0.28), (repeat, 0.10),
             (word_list, 0.08), (arithmetic, 0.08))
LATE_MIX = ((sensor, 0.30), (check, 0.06), (in_range, 0.08), (facts, 0.44), (repeat, 0.02),
            (word_list, 0.06), (arithmetic, 0.04))
TESTS = (sensor, sensor_new_form, in_range, check, facts, repeat, word_list, arithmetic)


def training_turns(rng, mix=EARLY_MIX):
    """[(prompt, answer)]: one to four turns about one context, none from the test part."""
    functions, shares = zip(*mix)
    while True:
        function = rng.choices(functions, shares)[0]
        _, body, questions = function(rng, least=1)
        limit = rng.choice((1, 2, 3, 4))
        if questions[0][2]:
            continue
        turns = [(q, a) for q, a, test in questions if not test][:limit]
        return [(body + turns[0][0], turns[0][1])] + turns[1:]


def test_items(count, seed=20):
    """{task: [(prompt, answer)]}: single turns from the test part only."""
    out = {}
    for function in TESTS:
        rng, seen = random.Random(seed), {}
        while len(seen) < count:
            task, body, questions = function(rng)
            question, answer, test = questions[0]
            if test:
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
