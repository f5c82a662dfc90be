"""Names and words that no fixed list holds, for tasks that cannot be answered by having seen the name before.

A name is invented from syllables, or taken from the texts, or put together ("intake valve", "pump 3", "T7"). One in
ten, by a hash of what it is made from, is held out of training; so are all names of `UNSEEN`, which nobody drew: a
person would write them.
"""

import re
import zlib
from collections import Counter

import prompts

ONSETS = "b br c ch cl d dr f fl g gl gr h j k kl l m n p pl pr r s sh sk sl st t th tr v w y z".split() + [""]
NUCLEI = "a a a e e e i i o o u ai ea ee ia io oa ou".split()
CODAS = ["", "", "", "", "", "n", "n", "r", "r", "l", "s", "m", "th", "x", "nd", "rt", "k", "t", "sh", "d"]
UNSEEN = {
    "sensors": ("compressor chiller condenser blower centrifuge dryer conveyor grinder evaporator inverter radiator "
                "thermostat silo dynamo hopper crane smelter incubator winch gearbox").split(),
    "names": ("George Nina Felix Ingrid Hugo Olga Bruno Ivan Greta Marcel Tanya Boris Amira Leon Freya Carlos Yusuf "
              "Heidi Mirko Priya").split(),
    "cities": ("Warsaw Cairo Tokyo Lima Geneva Hanoi Boston Dakar Riga Sofia Tallinn Zagreb Porto Ankara Quito "
               "Nairobi").split(),
    "animals": "tiger camel otter hamster parrot turtle donkey badger falcon lizard penguin beaver weasel ferret".split(),
    "objects": "wallet jacket scarf guitar kettle ladder bicycle helmet pillow lantern compass whistle".split(),
    "colours": "pink violet silver golden crimson turquoise beige scarlet".split(),
    "words": ("piano candle pepper rocket marble ribbon castle saddle anchor cactus ticket violin magnet tunnel puzzle "
              "basket copper velvet").split()}
COMMON = 12         # a word of the texts is taken from so many occurrences on


def held(name):
    """Whether a name is kept out of training."""
    return zlib.crc32(("name " + name.lower()).encode()) % 10 == 0


class Names:
    """Draws fresh lists: `lists(rng, unseen)` gives a `prompts.Lists`."""

    def __init__(self, texts):
        """`texts` are those of `data.load_texts`."""
        plain, proper = Counter(), Counter()
        for domain in ("kjv", "austen", "dialogue", "python"):
            for word in re.findall(r"(?<=[a-z,] )[A-Za-z]{3,10}\b", texts[domain][0]):
                (plain if word.islower() else proper)[word] += 1
        unseen = {w.lower() for group in UNSEEN.values() for w in group}
        known = {w.lower() for w in prompts.VOCABULARY} | unseen
        self.plain = sorted(w for w, n in plain.items() if n >= COMMON and w not in known)
        self.proper = sorted(w for w, n in proper.items() if n >= COMMON and w.istitle() and w.lower() not in known
                             and plain[w.lower()] * 4 < n)

    def invent(self, rng):
        """A word of two or three syllables."""
        while True:
            word = "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) for _ in range(rng.choice((1, 2, 2)))) \
                + rng.choice(ONSETS[:-1]) + rng.choice(NUCLEI) + rng.choice(CODAS)
            if 4 <= len(word) <= 10:
                return word

    def one(self, rng, kind, unseen):
        """A name of a kind of `UNSEEN`."""
        if unseen and rng.random() < 0.5:
            return rng.choice(UNSEEN[kind])
        capital = kind in ("names", "cities")
        while True:
            word = self.invent(rng) if rng.random() < 0.5 else rng.choice(self.proper if capital else self.plain)
            if held(word) == unseen:
                break
        if kind == "sensors" and rng.random() < 0.3:
            other = rng.choice(prompts.SENSORS + [word])
            word = rng.choice(("%s %s" % (word, rng.choice(prompts.SENSORS)), "%s %d" % (other, rng.randint(1, 9)),
                               "%s %s" % (other, rng.choice("ABCDEF")), "%s%d" % (rng.choice("TPVKRQ"), rng.randint(1, 99)),
                               "%s_%s" % (word, rng.choice(prompts.SENSORS))))
        return word.capitalize() if capital else word

    def lists(self, rng, unseen=False):
        """Lists as long as tasks need, all of them new (`unseen`: held out of training) or some of them."""
        def some(kind, count, known):
            out = []
            while len(out) < count:
                name = rng.choice(known) if not unseen and rng.random() < 0.2 else self.one(rng, kind, unseen)
                # no name is the beginning or the end of another: which is meant stays clear
                if not any(name in other or other in name for other in out):
                    out.append(name)
            return out
        return prompts.Lists(some("sensors", 6, prompts.SENSORS), some("names", 8, prompts.NAMES),
                             some("colours", 6, prompts.COLOURS) if rng.random() < 0.3 else prompts.COLOURS,
                             some("objects", 6, prompts.OBJECTS), some("cities", 8, prompts.CITIES),
                             some("animals", 8, prompts.ANIMALS), some("words", 9, prompts.WORDS))
