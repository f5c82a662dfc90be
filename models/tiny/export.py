"""The trained model as files in the layout of the released checkpoint, and back."""

import json
import os
import shutil

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import data
import prompts
from model import Model, Shape
from names import Names

TOP = "thinker.model."
ATTENTION = ("q", "k", "v", "o")
ITEMS = 200         # of every task in tasks/


def named_tensors(model):
    """Checkpoint tensors in module order, bf16, one 2-D tensor per expert matrix."""
    out = {TOP + "embed_tokens.weight": model.embed}
    for n, layer in enumerate(model.layers):
        at = TOP + "layers.%d." % n
        for name in ATTENTION:
            out[at + "self_attn.%s_proj.weight" % name] = getattr(layer, name)
        out[at + "self_attn.q_norm.weight"] = layer.q_norm
        out[at + "self_attn.k_norm.weight"] = layer.k_norm
        out[at + "mlp.gate.weight"] = layer.router
        for e in range(model.shape.experts):
            gate, up = layer.gate_up[e].chunk(2, 1)
            out[at + "mlp.experts.%d.gate_proj.weight" % e] = gate.t()
            out[at + "mlp.experts.%d.up_proj.weight" % e] = up.t()
            out[at + "mlp.experts.%d.down_proj.weight" % e] = layer.down[e].t()
        out[at + "input_layernorm.weight"] = layer.norm_in
        out[at + "post_attention_layernorm.weight"] = layer.norm_post
    out[TOP + "norm.weight"] = model.norm
    out["thinker.lm_head.weight"] = model.head
    return {k: v.detach().to(torch.bfloat16).contiguous() for k, v in out.items()}


@torch.no_grad()
def read(folder):
    """The model whose files lie in `folder`, in f32, of the shape that its config.json says."""
    weights = {}
    for path in sorted(folder.glob("model-*.safetensors")):
        with safe_open(str(path), "pt") as shard:
            weights.update({name: shard.get_tensor(name).float() for name in shard.keys()})
    model = Model(read_shape(folder))
    for n, layer in enumerate(model.layers):
        at = TOP + "layers.%d." % n
        take = lambda name: weights[at + name + ".weight"]
        for name in ATTENTION:
            getattr(layer, name).copy_(take("self_attn.%s_proj" % name))
        for mine, theirs in (("q_norm", "self_attn.q_norm"), ("k_norm", "self_attn.k_norm"), ("router", "mlp.gate"),
                             ("norm_in", "input_layernorm"), ("norm_post", "post_attention_layernorm")):
            getattr(layer, mine).copy_(take(theirs))
        for e in range(model.shape.experts):
            expert = [take("mlp.experts.%d.%s_proj" % (e, part)).t() for part in ("gate", "up", "down")]
            layer.gate_up[e].copy_(torch.cat(expert[:2], 1))
            layer.down[e].copy_(expert[2])
    model.embed.copy_(weights[TOP + "embed_tokens.weight"])
    model.norm.copy_(weights[TOP + "norm.weight"])
    model.head.copy_(weights["thinker.lm_head.weight"])
    return model


def read_shape(folder):
    """The shape of the model whose files lie in `folder`."""
    text = json.loads((folder / "config.json").read_text("utf-8"))["thinker_config"]["text_config"]
    return Shape(hidden=text["hidden_size"], layers=text["num_hidden_layers"], heads=text["num_attention_heads"],
                 kv_heads=text["num_key_value_heads"], head_dim=text["head_dim"], experts=text["num_experts"],
                 top_k=text["num_experts_per_tok"], expert_dim=text["moe_intermediate_size"], theta=text["rope_theta"],
                 eps=text["rms_norm_eps"], positions=text["max_position_embeddings"])


def cut_shards(tensors, parts=3):
    """Consecutive groups of about equal size; at least one cut falls inside an expert."""
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


def config(ids, s):
    """config.json in the released style; `ids` of the special tokens."""
    half = s.head_dim // 2
    text = {
        "model_type": "qwen3_omni_moe_text", "attention_bias": False, "attention_dropout": 0.0,
        "decoder_sparse_step": 1, "head_dim": s.head_dim, "hidden_act": "silu", "hidden_size": s.hidden,
        "initializer_range": 0.02, "intermediate_size": s.expert_dim, "max_position_embeddings": s.positions,
        "mlp_only_layers": [], "moe_intermediate_size": s.expert_dim, "norm_topk_prob": True,
        "num_attention_heads": s.heads, "num_experts": s.experts, "num_experts_per_tok": s.top_k,
        "num_hidden_layers": s.layers, "num_key_value_heads": s.kv_heads, "output_router_logits": False,
        "rms_norm_eps": s.eps,
        "rope_scaling": {"interleaved": True, "mrope_interleaved": True,
                         "mrope_section": [half - 2 * (half // 3), half // 3, half // 3],
                         "rope_type": "default", "type": "default"},
        "rope_theta": int(s.theta), "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 0,
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


def json_files(tokenizer, tensors, names, shape):
    """{file name: content} of everything but tensors and tokenizer."""
    ids = {t: tokenizer.token_to_id(t) for t in data.SPECIALS + ["user", "system", "assistant"]}
    end = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    added = {str(ids[t]): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                           "single_word": False, "special": True} for t in data.SPECIALS}
    return {
        "config.json": config(ids, shape),
        "model.safetensors.index.json": {
            "metadata": {"total_size": sum(t.numel() * t.element_size() for t in tensors.values())},
            "weight_map": names},
        "generation_config.json": {"bos_token_id": ids["<|endoftext|>"], "do_sample": False,
                                   "eos_token_id": end, "pad_token_id": ids["<|endoftext|>"],
                                   "transformers_version": "4.57.0.dev0"},
        "tokenizer_config.json": {
            "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
            "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
            "errors": "replace", "model_max_length": shape.positions, "pad_token": "<|endoftext|>",
            "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None},
        "chat_template.json": {"chat_template": chat_template()}}


def write(work, target):
    """Write the model that train.py trained in `work` into `target`."""
    texts = data.load_texts(work)
    model = Model(Shape())
    model.load_state_dict(torch.load(work / "experts.pt", weights_only=False)["model"])
    write_files(model, data.build_tokenizer(work, texts), texts, target)


def write_files(model, tokenizer, texts, target):
    """Write a model, the test prompts and the held-out texts into `target`."""
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
    for name, content in json_files(tokenizer, tensors, names, model.shape).items():
        (new / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    tokenizer.save(str(new / "tokenizer.json"))
    for folder in ("tasks", "heldout"):
        (new / folder).mkdir()
    for task, items in prompts.test_items(ITEMS, names=Names(texts)).items():
        lines = [json.dumps({"task": task, "prompt": q, "answer": a}) for q, a in items]
        (new / "tasks" / (task + ".jsonl")).write_text("\n".join(lines) + "\n", "utf-8")
    for name, (_, held) in texts.items():
        (new / "heldout" / (name + ".txt")).write_text(data.SEPARATOR.join(held), "utf-8")
    for path in sorted(p for p in new.rglob("*") if p.is_file()):
        place = target / path.relative_to(new)
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
    shutil.rmtree(new)
