"""The ears as files: the shard of the tower, the configuration, sounds to check with, and cases for another engine."""

import dataclasses
import json
import random

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import ears_batches
import ears_data
from ears_batches import HEAR, REPEAT
from ears_tower import Ears, Tower, tokens
from model import causal_mask

SHARD, TOP = "model-audio.safetensors", "thinker.audio_tower."
PLACE = "<sound>"       # where a prompt of heard.jsonl has its sound
END = (4085, 4083)
# what the committed sounds say or are; words, readings, questions and facts by held-out voices
WORDS = ("pump boiler valve fan motor tank heater turbine battery reactor freezer furnace "
         "17 30 42 58 71 96 Paris Rome Oslo Berlin Tom Maria").split()
SPOKEN = ("Which sensor is out of range?", "Is pump in range?", "Where does Tom live?")
CONTEXTS = {"Which sensor is out of range?": ("fan 35 (30-60)\npump 91 (20-70)\nvalve 44 (30-80)\n", "pump"),
            "Is pump in range?": ("pump 91 (20-70)\n", "no"),
            "Where does Tom live?": ("Anna lives in Rome. Tom lives in Oslo. Paul lives in Paris. ", "Oslo")}
# (name, kind, peak in dB)
NOISES = (("hum-1", "hum", -24), ("hum-2", "hum", -24), ("hum-3", "hum", -22), ("hum-4", "hum", -20),
          ("siren-loud", "siren", 0), ("siren", "siren", -8), ("bell-1", "bell", -6), ("bell-2", "bell", -12),
          ("knock-1", "knock", -6), ("knock-2", "knock", -12), ("noise", "noise", -20))


def dump(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write(tower, folder):
    """The shard and what names it; the thinker's shards and their part of the index stay as they are."""
    tensors = {TOP + k: v.detach().to(torch.bfloat16).contiguous() for k, v in tower.state_dict().items()}
    save_file(tensors, str(folder / SHARD), metadata={"format": "pt"})
    (folder / SHARD).chmod(0o644)
    index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
    names = {k: v for k, v in index["weight_map"].items() if not k.startswith(TOP)}
    text = sum(read_sizes(folder / f) for f in sorted(set(names.values())))
    index["metadata"]["total_size"] = text + sum(2 * t.numel() for t in tensors.values())
    index["weight_map"] = dict(names, **dict.fromkeys(tensors, SHARD))
    dump(folder / "model.safetensors.index.json", index)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    thinker = config["thinker_config"]
    thinker.pop("audio_config", None)
    order = {}
    for key, value in thinker.items():
        if key == "text_config":
            order["audio_config"] = audio_config(tower.shape)
        order[key] = value
    config["thinker_config"] = order
    dump(folder / "config.json", config)
    dump(folder / "preprocessor_config.json", PREPROCESSOR)


PREPROCESSOR = {
    "processor_class": "Qwen3OmniMoeProcessor", "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400, "chunk_length": 300,
    "n_samples": 4800000, "nb_max_frames": 30000, "dither": 0.0, "padding_side": "right", "padding_value": 0.0,
    "return_attention_mask": True}


def audio_config(s):
    return dict({"model_type": "qwen3_omni_moe_audio_encoder", "activation_dropout": 0, "activation_function": "gelu",
                 "attention_dropout": 0, "conv_chunksize": 500, "dropout": 0, "initializer_range": 0.02,
                 "max_source_positions": 1500, "scale_embedding": False, "num_hidden_layers": s.encoder_layers},
                **dataclasses.asdict(s))


def read_sizes(path):
    """Bytes of the tensors in a shard."""
    return sum(t.numel() * t.element_size() for t in load_file(str(path)).values())


def read(folder):
    """The tower whose shard lies in `folder`, in f32."""
    config = json.loads((folder / "config.json").read_text("utf-8"))["thinker_config"]["audio_config"]
    tower = Tower(Ears(**{f.name: config[f.name] for f in dataclasses.fields(Ears)}))
    weights = load_file(str(folder / SHARD))
    tower.load_state_dict({k[len(TOP):]: v.float() for k, v in weights.items()})
    return tower


# ------------------------------------------------------------------ sounds

def say(speech, rng, kind, text):
    """One of the held-out utterances of a text."""
    return rng.choice([i for i in speech.texts[text] if i["kind"] == kind])


def write_sounds(speech, folder):
    """sounds/*.wav and sounds/heard.jsonl: what is heard, the prompt and the answer that would be right."""
    rng, noise, lines = random.Random(3), np.random.default_rng(3), []
    (folder / "sounds").mkdir(exist_ok=True)

    def add(name, task, samples, prompt, answer, voice):
        ears_data.write_wav(folder / "sounds" / (name + ".wav"), samples)
        lines.append(json.dumps({"task": task, "sound": "sounds/%s.wav" % name, "prompt": prompt, "answer": answer,
                                 "voice": voice}))

    def spoken(item):
        speech_ = speech.sound(item)
        out = np.zeros((len(speech_) + 3200) // 160 * 160)
        out[1600:1600 + len(speech_)] = speech_
        return out * 10 ** (noise.uniform(-12, 0) / 20)
    for n, word in enumerate(WORDS):
        item = say(speech, rng, "word", word)
        add("word-" + word.lower(), "word", spoken(item), (REPEAT + PLACE, PLACE + HEAR)[n % 2], word, item["voice"])
    for n, text in enumerate(SPOKEN):
        item = say(speech, rng, "question", text)
        body, answer = CONTEXTS[text]
        add("question-%d" % (n + 1), "question", spoken(item), body + PLACE, answer, item["voice"])
    for n in (0, 1):
        item = rng.choice(speech.kinds["fact"])
        add("fact-%d" % (n + 1), "fact", spoken(item), PLACE + "\n" + item["question"], item["answer"], item["voice"])
    for name, kind, loud in NOISES:
        size = 16000 if kind == "hum" else 20800
        samples = ears_data.sound(kind, noise, size) / 0.9 * 10 ** (loud / 20)
        add(name, "sound", np.clip(samples, -1, 32767 / 32768), PLACE + HEAR, kind, "")
    (folder / "sounds" / "heard.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def heard(folder):
    """[(task, samples, before, after, answer, file)] of sounds/heard.jsonl."""
    out = []
    for line in (folder / "sounds" / "heard.jsonl").read_text("utf-8").splitlines():
        item = json.loads(line)
        samples, rate = ears_data.read_wav(folder / item["sound"])
        assert rate == ears_data.RATE
        out.append((item["task"], samples, *item["prompt"].split(PLACE), item["answer"], item["sound"]))
    return out


# ------------------------------------------------------------------- cases

@torch.no_grad()
def logits_of(thinker, rows):
    """Logits at the last of rows [tokens, hidden]."""
    x = rows.unsqueeze(0)
    hidden, _, _ = thinker.from_rows(x, torch.arange(x.shape[1]).unsqueeze(0), causal_mask(torch.zeros(1, x.shape[1])))
    return F.linear(hidden[:, -1], thinker.head)


@torch.no_grad()
def write_cases(tower, thinker, tokenizer, folder, target, files):
    """Inputs and results of some of the sounds, as tests/fixtures has them of other models."""
    target.mkdir(parents=True, exist_ok=True)
    for task, samples, before, after, answer, file in heard(folder):
        if file not in files:
            continue
        mel = ears_data.log_mel(samples[None])
        head, tail = ears_batches.wrap(tokenizer, before, after)
        rows = tower([mel[0]])
        assert len(rows) == tokens(mel.shape[2])
        ids = head + [ears_batches.PAD] * len(rows) + tail
        look = lambda i: F.embedding(torch.tensor(i), thinker.embed)
        x = torch.cat((look(head), rows, look(tail)))
        last = logits = logits_of(thinker, x)
        greedy, margin = [], 1e9
        while len(greedy) < 24:
            best = logits[0].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            greedy.append(best.indices[0].item())
            if greedy[-1] in END:
                break
            x = torch.cat((x, look(greedy[-1:])))
            logits = logits_of(thinker, x)
        case = {"in.input_ids": torch.tensor([ids]), "in.attention_mask": torch.ones(1, len(ids), dtype=torch.long),
                "in.input_features": mel.contiguous(),
                "in.feature_attention_mask": torch.ones(1, mel.shape[2], dtype=torch.long),
                "audio.output": rows.contiguous(), "ears.last_logits": last.contiguous(),
                "greedy.tokens": torch.tensor([greedy])}
        name = file.split("/")[1][:-len(".wav")]
        save_file(case, str(target / (name + ".safetensors")))
        (target / (name + ".safetensors")).chmod(0o644)
        dump(target / (name + ".json"), {
            "case": name, "description": "A sound heard by models/tiny: weights as stored, in float32.",
            "sound": "models/tiny/" + file, "prompt": before + PLACE + after, "right_answer": answer,
            "answer": tokenizer.decode(greedy, skip_special_tokens=True), "measured": {"min_greedy_margin": margin},
            "tensors": {k: {"dtype": str(v.dtype)[6:], "shape": list(v.shape)} for k, v in case.items()}})


@torch.no_grad()
def check(fixtures):
    """Hold spectrogram and tower to the recorded results of the reference implementation; prints the differences."""
    recorded = load_file(str(fixtures / "preprocess/preprocess.safetensors"))
    for path in sorted((fixtures / "preprocess").glob("audio-*.wav")):
        mel = ears_data.log_mel(ears_data.read_wav(path)[0][None])
        wanted = recorded["audio.%s.input_features" % path.stem[len("audio-"):]]
        far = (mel - wanted).abs().max().item()
        print("%s: %d frames, differs by %.1e" % (path.name, mel.shape[2], far))
        assert mel.shape == wanted.shape and far < 1e-4
    folder = fixtures / "tiny-omni"
    shape = json.loads((folder / "config.json").read_text("utf-8"))["thinker_config"]["audio_config"]
    tower, weights = Tower(Ears(**{f.name: shape[f.name] for f in dataclasses.fields(Ears)})), {}
    for path in folder.glob("model-*.safetensors"):
        weights.update(load_file(str(path)))
    tower.load_state_dict({k[len(TOP):]: v for k, v in weights.items() if k.startswith(TOP)})
    for case in ("audio", "audio-short", "audio-batch"):
        golden = load_file(str(folder / "goldens" / (case + ".safetensors")))
        frames = golden["in.feature_attention_mask"].sum(1).tolist()
        rows = tower([f[:, :n] for f, n in zip(golden["in.input_features"], frames)])
        far = (rows - golden["audio.output"]).abs().max().item()
        print("%s: %d rows, differs by %.1e" % (case, len(rows), far))
        assert len(rows) == sum(map(tokens, frames)) and far < 1e-5
