"""Writes what transformers makes of 1,000 texts with models/tiny's tokenizer, split into the files of a release.

    pip install transformers
    python tests/export_tokens.py                      # writes tests/fixtures/tokens/tiny.json.gz
    python tests/export_tokens.py --tokenizer FOLDER --out FILE.json.gz

FOLDER holds tokenizer.json and tokenizer_config.json; it is split into vocab.json, merges.txt and
tokenizer_config.json, and transformers reads those. The file holds the texts, and for each variant of the
configuration its files, the ids of every text, the ids without special tokens, and texts of random ids.
"""

import argparse
import gzip
import io
import json
import random
import tempfile
from pathlib import Path

from transformers import Qwen2Tokenizer

ROOT = Path(__file__).resolve().parent.parent
COUNT = 1000
# Variants of the configuration are compared on the first texts alone.
VARIANT_COUNT = 150

SCRIPTS = [
    "Franz jagt im komplett verwahrlosten Taxi quer durch Bayern, größer und weiß.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "いろはにほへと ちりぬるを カタカナ 漢字かな交じり文。",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Zażółć gęślą jaźń, İstanbul'da ışık, Đà Nẵng tiếng Việt",
    "ქართული ანბანი, Հայերեն, አማርኛ, ᏣᎳᎩ, བོད་ཡིག",
]
CODE = [
    "fn main() {\n    let x: Vec<u8> = vec![1, 2, 3];\n    println!(\"{x:?}\");\n}\n",
    "def f(x):\n\treturn {k: v for k, v in x.items() if v >= 0x1F}  # don't\n",
    "#include <stdio.h>\r\nint main(void)\r\n{\r\n\tprintf(\"%d\\n\", 42);\r\n}\r\n",
    "SELECT * FROM t WHERE a <> 'b' AND c IN (1,2,3);",
    "<div class=\"a\"><p>x &amp; y</p></div>",
    "a = b**2 + c//3 - ~d ^ e << 4 | f && !g ?? h ?: i",
    "https://example.org/a/b?c=d&e=%20f#g user@example.com",
    "{\"a\": [1, 2.5e-3, null, true], \"b\": \"\\u00e9\"}",
]
EMOJI = "🙂😀👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇩🇪🇯🇵🧑🏿‍🚀❤️☃️✈️1️⃣🤷🏻‍♀️𝔘𝔫𝔦𝕔𝕠𝕕𝕖"
MARKS = ["e\u0301", "u\u0308\u0304", "A\u030a", "\u212b", "\u2126", "q\u0307\u0323", "\u1100\u1161\u11a8", "\ufb01", "a\u0338", "\u037e", "\u0958", "n\u0303o"]
SPACES = [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u0085", "\u2028", "\x0b", "\x0c", "\ufeff", "\x1f"]
DIGITS = ["0", "7", "42", "1234567890", "3.14159", "1,000,000", "0x7fFF", "٣٤٥", "½²₃Ⅷ", "१२३", "2026-11-29T22:30:00Z", "-1e+10"]
CONTRACTIONS = ["don't", "I'LL", "we'Ve", "it's 'S", "rock'n'roll", "’s", "they'd've"]


def texts(specials, rng):
    pieces = SCRIPTS + CODE + MARKS + SPACES + DIGITS + CONTRACTIONS + list(EMOJI) + specials
    words = "the of and to in Where does Helen live motor heater battery range 21 + 3 = ? . , ; : ! ( ) [ ] - _".split()
    found = [""] + SCRIPTS + CODE + [EMOJI] + MARKS + SPACES + DIGITS + CONTRACTIONS + specials
    found += [f"{a}{b}{c}" for a in ("a", " ", "\n") for b in specials for c in ("b", " ", "\n")]

    def anything():
        while True:
            code = rng.choice([rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x10000), rng.randrange(0x110000)])
            if not 0xD800 <= code < 0xE000:
                return chr(code)

    while len(found) < COUNT:
        kind = rng.randrange(4)
        if kind == 0:
            found.append("".join(rng.choice(pieces) for _ in range(rng.randrange(1, 7))))
        elif kind == 1:
            found.append("".join(anything() for _ in range(rng.randrange(1, 40))))
        elif kind == 2:
            found.append("".join(rng.choice(words) + rng.choice([" ", " ", " ", *SPACES]) for _ in range(rng.randrange(1, 25))))
        else:
            torn = rng.choice(specials)
            cut = rng.randrange(1, len(torn))
            found.append(torn[:cut] + rng.choice(["", " ", "x", torn]) + torn[cut:] + rng.choice(words))
    return found[:COUNT]


def split(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    model = tokenizer["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    config["added_tokens_decoder"] = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in tokenizer["added_tokens"]
    }
    config.pop("chat_template", None)
    return {
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }, config


def variants(config):
    """Configurations, and files beside them."""
    yield "released", config, {}
    first, *rest = sorted(map(int, config["added_tokens_decoder"]))
    next_id = max([first, *rest]) + 1
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False}
    marked = json.loads(json.dumps(config))
    decoder = marked["added_tokens_decoder"]
    there = {token["content"] for token in decoder.values()}
    for token in decoder.values():
        if token["content"] in ("<|im_end|>", "<|vision_end|>"):
            token.update(lstrip=True, rstrip=True)
    further = [
        {"content": "<think>"},
        {"content": "</think>", "rstrip": True},
        {"content": "café", "normalized": True},
        {"content": "zedword", "single_word": True},
        {"content": "größerzed"},
    ]
    for at, token in enumerate(token for token in further if token["content"] not in there):
        decoder[str(next_id + at)] = {**plain, **token}
    yield "marked", marked, {}
    older = {key: value for key, value in config.items() if key != "added_tokens_decoder"}
    older["image_token"] = "<|image_pad|>"
    added = {token["content"]: int(id) for id, token in config["added_tokens_decoder"].items()}
    yield "older", older, {
        "added_tokens.json": added,
        "special_tokens_map.json": {
            "eos_token": {"content": "<|im_end|>", **{key: plain[key] for key in ("lstrip", "rstrip", "normalized", "single_word")}},
            "additional_special_tokens": ["<|im_start|>", "<|new|>"],
        },
    }
    named = {**config, "audio_bos_token": "<|audio_bos|>"}
    named["additional_special_tokens"] = ["<|vision_end|>", {"__type": "AddedToken", **plain, "content": "<|more|>", "lstrip": True}]
    yield "named", named, {}
    yield "spaced", {**config, "add_prefix_space": True}, {}
    yield "bare", None, {}


def read(files, config, beside):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name, value in {"tokenizer_config.json": config, **beside}.items():
            if value is not None:
                (folder / name).write_text(json.dumps(value), encoding="utf-8")
        return Qwen2Tokenizer.from_pretrained(folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "models/tiny")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/fixtures/tokens/tiny.json.gz")
    args = parser.parse_args()
    rng = random.Random(12)
    files, config = split(args.tokenizer)
    specials = [token["content"] for token in config["added_tokens_decoder"].values()] + ["<think>", "</think>", "café", "cafe\u0301", "zedword", "größerzed", "<|new|>", "<|more|>"]
    all_texts = texts(specials, rng)
    result = {"texts": all_texts, "variants": []}
    for name, variant, beside in variants(config):
        tokenizer = read(files, variant, beside)
        some = all_texts if name == "released" else all_texts[:VARIANT_COUNT]
        found = {"name": name, "tokenizer_config.json": variant, "beside": beside}
        found["ids"] = [tokenizer.encode(text, add_special_tokens=False) for text in some]
        tokenizer._tokenizer.encode_special_tokens = True
        found["ids_without_special"] = [tokenizer._tokenizer.encode(text, add_special_tokens=False).ids for text in some]
        if name == "released":
            size = len(tokenizer)
            sequences = [[rng.randrange(size if rng.random() < 0.5 else min(size, 256)) for _ in range(rng.randrange(1, 30))] for _ in range(300)]
            found["decoded"] = [[ids, tokenizer.decode(ids, skip_special_tokens=True)] for ids in sequences]
        result["variants"].append(found)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=9) as file:
        file.write(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode())
    args.out.write_bytes(packed.getvalue())
    print(f"{args.out}: {len(packed.getvalue())} bytes, {len(all_texts)} texts")


if __name__ == "__main__":
    main()
