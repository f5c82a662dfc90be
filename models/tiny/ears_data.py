"""What the ears are trained on: speech of espeak-ng, synthesised sounds, and the log-mel spectrogram.

Speech is made once into the work folder, by many voices; whole voices are held out of training, and so are
the phrases, contexts of questions, and facts that `prompts.held_out` picks.  Sounds are drawn anew each time.
Loudness is drawn too, and nothing makes it even.
"""

import json
import random
import subprocess
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import prompts

RATE, HOP, FFT, MELS = 16000, 160, 400, 128
VOICES_AT = "/usr/lib/*/espeak-ng-data/voices/!v"
ACCENTS = ("en-us en-gb en-gb-x-rp en-029 en-gb-scotland en-gb-x-gbcwmd en-gb-x-gbclan en-us-nyc").split()
# None of these shares half of its parameters with a voice that is trained on.
HELD_VOICES = ("f5 m5 Alicia Mike benjamin caleb linda marcelo quincy sandro travis victor belinda shelby").split()
NUMBERS = [str(n) for n in range(10, 100)]
SINGLE = prompts.VOCABULARY + NUMBERS
SOUNDS = ("siren", "bell", "hum", "knock", "noise", "silence")


# ------------------------------------------------------------ spectrogram

def mel_filters():
    """[201, 128] triangles on Slaney's scale from 0 to 8000 Hz, each of area one."""
    def to_hz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
    top = 15 + 27 * np.log(8) / np.log(6.4)
    edges = to_hz(np.linspace(0, top, MELS + 2))
    bins = np.linspace(0, RATE / 2, FFT // 2 + 1)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall)) * 2 / (edges[2:] - edges[:-2])


FILTERS = torch.from_numpy(mel_filters()).float()


def log_mel(samples):
    """[clips, n] samples in [-1, 1] -> [clips, 128, n // 160]."""
    samples = torch.as_tensor(samples, dtype=torch.float32)
    spectrum = torch.stft(samples, FFT, HOP, window=torch.hann_window(FFT), center=True, pad_mode="reflect",
                          return_complex=True)[..., :-1].abs() ** 2
    mel = (FILTERS.t() @ spectrum).clamp(min=1e-10).log10()
    return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4


def read_wav(path):
    """Samples of a 16-bit mono file in [-1, 1], and their rate."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0, file.getframerate()


def write_wav(path, samples):
    """16 kHz, mono, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(to_int16(samples).tobytes())


def to_int16(samples):
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2")


def resample(samples, ratio):
    """`ratio` times as many samples, through the spectrum; lengths are rounded to what is quickly transformed."""
    samples = np.pad(samples, (0, -len(samples) % 64))
    size = max(2, int(round(len(samples) * ratio / 64)) * 64)
    spectrum, wanted = np.fft.rfft(samples), size // 2 + 1
    spectrum = np.pad(spectrum, (0, max(0, wanted - len(spectrum))))[:wanted]
    return np.fft.irfft(spectrum, size) * ratio


# ----------------------------------------------------------------- speech

def voices():
    """(voices to train with, held-out voices), as installed."""
    folder = sorted(Path("/").glob(VOICES_AT[1:]))
    if not folder:
        raise SystemExit("espeak-ng is needed: apt-get install espeak-ng")
    names = sorted(p.name for p in folder[0].iterdir() if " " not in p.name)
    return [n for n in names if n not in HELD_VOICES], [n for n in HELD_VOICES if n in names]


def speak(text, voice, speed, pitch):
    """16 kHz samples of a text without the silence around it, the loudest at 0.9."""
    done = subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text],
                          capture_output=True, check=True)
    samples = np.frombuffer(done.stdout[44:len(done.stdout) // 2 * 2], "<i2") / 32768.0
    samples = resample(samples, RATE / 22050)
    peak = np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > 0.01 * peak)
    if peak < 1e-3 or not len(loud):
        return np.zeros(0)
    return samples[loud[0]:loud[-1] + 1] * (0.9 / peak)


def fact_of(rng):
    """(sentence, question, answer, held out) of one fact."""
    while True:
        body, questions = prompts.facts(rng, 1)
        if len(questions) == 1:
            return (body.strip(),) + questions[0]


def questions_of():
    """[every question about facts and sensors that the thinker is trained on]."""
    out = [(q.format(who=w, thing=t, what=a)) for kind in prompts.FACTS.values() for form in kind[1:] for q in form
           for w in prompts.NAMES for t in prompts.OBJECTS for a in prompts.ANIMALS]
    out += list(prompts.SENSOR_QUESTIONS) * 3 + ["Check every sensor."] * 3
    out += ["Is %s in range?" % s for s in prompts.SENSORS]
    return list(dict.fromkeys(out))


def phrase_of(rng):
    """Two or three words: a reading, a name and a city, or any."""
    kind = rng.random()
    if kind < 0.4:
        return "%s %s" % (rng.choice(prompts.SENSORS), rng.choice(NUMBERS))
    if kind < 0.6:
        return "%s %s" % (rng.choice(prompts.NAMES), rng.choice(prompts.CITIES))
    return " ".join(rng.sample(SINGLE, rng.choice((2, 2, 3))))


def utterances(rng, held):
    """[(kind, text, meta)] to be spoken, of the training or of the held-out side."""
    times = 3 if held else 120
    out = [("word", w, {}) for w in SINGLE for _ in range(times)]
    def draw(kind, count, make):
        found = []
        while len(found) < count:
            text, meta, unseen = make()
            if unseen == held:
                found.append((kind, text, meta))
        out.extend(found)
    def phrase():
        text = phrase_of(rng)
        return text, {}, prompts.held_out(text)
    def fact():
        text, question, answer, unseen = fact_of(rng)
        return text, {"question": question, "answer": answer}, unseen
    draw("phrase", 300 if held else 12000, phrase)
    draw("fact", 300 if held else 7000, fact)
    for question in questions_of():
        often = 60 if "of range" in question or "Check" in question else 30 if question.startswith("Is ") else 12
        out += [("question", question, {})] * (max(1, often // 12) if held else often)
    return out


def make_speech(work, held, part=1, log=print):
    """Speak everything once, or one in `part`; returns (samples int16, [item]) of one side."""
    name = work / ("speech-held" if held else "speech" if part == 1 else "speech-%d" % part)
    if not name.with_suffix(".json").exists():
        rng = random.Random(7 if held else 5)
        mine = voices()[1 if held else 0]
        todo = []
        for n, (kind, text, meta) in enumerate(utterances(rng, held)[::1 if held else part]):
            voice = mine[n % len(mine)] if held else rng.choice(mine)
            todo.append((kind, text, meta, voice, rng.choice(ACCENTS), rng.randint(120, 220), rng.randint(20, 80)))
        say = lambda t: to_int16(speak(t[1], "%s+%s" % (t[4], t[3]), t[5], t[6]))
        items, parts, at = [], [], 0
        with ThreadPoolExecutor(2) as pool:
            for n, (t, sound) in enumerate(zip(todo, pool.map(say, todo))):
                if len(sound) > 0.1 * RATE:
                    items.append(dict(t[2], kind=t[0], text=t[1], voice=t[3], at=at, size=len(sound)))
                    parts.append(sound)
                    at += len(sound)
                if n % 5000 == 0:
                    log("speech: %d of %d" % (n, len(todo)), flush=True)
        np.save(name.with_suffix(".npy"), np.concatenate(parts))
        name.with_suffix(".json").write_text(json.dumps(items), "utf-8")
    return np.load(name.with_suffix(".npy"), mmap_mode="r"), json.loads(name.with_suffix(".json").read_text("utf-8"))


# ----------------------------------------------------------------- sounds

def coloured(rng, n, slope):
    """Noise whose power falls with frequency to the `slope`, rms one."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1 + n / 400) ** (-slope / 2)
    out = np.fft.irfft(spectrum, n)
    return out / (out.std() + 1e-9)


BANK = [coloured(np.random.default_rng(n), 20 * RATE, n / 4) for n in range(9)]


def background(rng, n):
    """A piece of a coloured noise."""
    at = rng.integers(0, 20 * RATE - n)
    return BANK[rng.integers(9)][at:at + n]


def strikes(rng, n, ring, gap, most):
    """`ring(rng, t)` started once or several times."""
    out, at = np.zeros(n), int(rng.uniform(0, 0.15) * RATE)
    step = rng.uniform(*gap)
    for _ in range(rng.integers(1, most + 1)):
        if at >= n - 800:
            break
        out[at:] += rng.uniform(0.6, 1) * ring(rng, np.arange(n - at) / RATE)
        at += int(step * rng.uniform(0.85, 1.15) * RATE)
    return out


def sound(name, rng, n):
    """n samples of a kind of sound, the loudest at 0.9 (silence: hardly anything)."""
    t = np.arange(n) / RATE
    if name == "siren":
        low, high, rate = rng.uniform(350, 900), rng.uniform(1.3, 2.6), rng.uniform(0.4, 5)
        turn = (t * rate + rng.random()) % 1
        shape = rng.choice(3)
        wave_ = (np.abs(2 * turn - 1), (turn > 0.5) * 1.0, 0.5 - 0.5 * np.cos(2 * np.pi * turn))[shape]
        phase = 2 * np.pi * np.cumsum(low * high ** wave_) / RATE
        out = np.tanh(rng.uniform(0.7, 5) * np.sin(phase)) + rng.uniform(0, 0.4) * np.sin(2 * phase)
    elif name == "bell":
        base, life = rng.uniform(350, 1800), rng.uniform(0.15, 0.9)
        partials = np.array([0.5, 1, 1.19, 1.5, 2, 2.5, 2.67, 3, 4.07]) * rng.uniform(0.98, 1.02, 9)
        loud, phase = rng.uniform(0.1, 1, 9), rng.uniform(0, 6.28, 9)
        def ring(_, s):
            return sum(a * np.exp(-s * (0.5 + 0.5 * p) / life) * np.sin(2 * np.pi * base * p * s + q)
                       for p, a, q in zip(partials, loud, phase) if base * p < 7600)
        out = strikes(rng, n, ring, (0.15, 0.7), 4)
    elif name == "hum":
        base, fall = rng.uniform(45, 170), rng.uniform(0.6, 2)
        out = sum(h ** -fall * rng.uniform(0.2, 1) * np.sin(2 * np.pi * base * h * t + rng.uniform(0, 6.28))
                  for h in range(1, 13))
        out *= 1 + rng.uniform(0, 0.3) * np.sin(2 * np.pi * rng.uniform(0.3, 6) * t)
        out += rng.uniform(0, 0.1) * background(rng, n)
    elif name == "knock":
        pitch, life, hard = rng.uniform(90, 500), rng.uniform(0.012, 0.05), rng.uniform(0.2, 1)
        def ring(r, s):
            return np.exp(-s / life) * (np.sin(2 * np.pi * pitch * s) + 0.6 * np.sin(2 * np.pi * 2.3 * pitch * s)
                                        + hard * r.standard_normal(len(s)) * np.exp(-s / 0.01))
        out = strikes(rng, n, ring, (0.12, 0.4), 6)
    elif name == "noise":
        out = background(rng, n) * 1.0
        out *= 1 + rng.uniform(0, 0.4) * np.sin(2 * np.pi * rng.uniform(0.2, 3) * t)
    else:
        level = 10 ** rng.uniform(-4.5, -3.2)
        return level * background(rng, n) * (rng.random() > 0.2)
    return out * (0.9 / (np.abs(out).max() + 1e-9))


# ----------------------------------------------------------- as it is heard

def place(rng, speech, n, clean=False):
    """n samples with the speech somewhere in them: pitch, room, tone, loudness and noise drawn."""
    if not clean:
        speech = resample(speech, rng.uniform(0.92, 1.09))
    out, room = np.zeros(n), n - len(speech)
    if room < 0:
        speech, room = speech[:n], 0
    at = int(rng.integers(0, room + 1))
    out[at:at + len(speech)] = speech
    if rng.random() < 0.3:              # echoes that die away
        tail = int(rng.uniform(0.02, 0.15) * RATE)
        echo = rng.standard_normal(tail) * np.exp(-np.arange(tail) / (tail / 4)) * rng.uniform(0.02, 0.12)
        echo[0] = 1
        size = n + 2400
        out = np.fft.irfft(np.fft.rfft(out, size) * np.fft.rfft(echo, size), size)[:n]
    if rng.random() < 0.4:              # a room or microphone that favours high or low
        spectrum = np.fft.rfft(out)
        out = np.fft.irfft(spectrum * (1 + np.arange(len(spectrum)) * (16000 / n) / 400) ** rng.uniform(-0.5, 0.5), n)
    return loud_and_noisy(rng, out)


def loud_and_noisy(rng, out):
    """Peak from -25 to 0 dB, and in two of three cases noise 12 to 45 dB below the peak."""
    peak = 10 ** (rng.uniform(-25, 0) / 20)
    out = out * (peak / max(np.abs(out).max(), 1e-9))
    if rng.random() < 0.65:
        out = out + peak * 10 ** (-rng.uniform(12, 45) / 20) * 0.3 * background(rng, len(out))
    return np.round(np.clip(out, -1, 1) * 32767) / 32768


def hear_sound(name, rng, n):
    """A sound as it is heard; silence stays as quiet as it is."""
    out = sound(name, rng, n)
    if name == "silence":
        return np.round(out * 32767) / 32768
    return loud_and_noisy(rng, out) if name != "noise" else out * 10 ** (rng.uniform(-25, 0) / 20)
