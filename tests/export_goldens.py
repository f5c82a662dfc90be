#!/usr/bin/env python3
"""Export golden tensors of a Qwen3-Omni or Qwen3-MoE checkpoint from the reference implementation, for `sage verify`.

The checkpoint (`qwen3_omni_moe`, its thinker saved alone as `qwen3_omni_moe_thinker`, or a text-only `qwen3_moe` such as
Qwen3-30B-A3B and Qwen3-Coder) is loaded with transformers' decoder, each prompt is run once with hooks on every decoder layer and
router, then continued greedily with the KV cache. What the reference computed is written as `<case>.safetensors`
beside `<case>.json`, the format of tests/fixtures:

    pip install torch transformers safetensors
    python3 tests/export_goldens.py CHECKPOINT --out goldens --prompt 'The capital of France is'
    sage verify CHECKPOINT --goldens goldens

Works with transformers 4.57 and 5.x. Text only: images, audio and speech are not exported. The checkpoint is a folder
in a layout that the installed transformers loads; it may lack towers, talker and vocoder. Stored bfloat16 is widened to float32 and all arithmetic is float32 with eager attention, so memory for four
bytes per thinker parameter is needed (about 127 GB for the released model). `--dtype bfloat16` halves that, but its
rounding flips experts and tokens: such goldens are marked `orientation_only`, reported and never a target.

Prompts (any mixture; each becomes a case `text-1`, `ids-1`, `random-1`, ...):

    --prompt TEXT ...           text as it stands: no chat template is applied, special tokens spelled in it count
    --prompt-ids '1 2 3' ...    token ids, for checkpoints without a tokenizer
    --random-prompts 3 --length 24 --seed 7      ids drawn from the vocabulary, special tokens left out
    --batch                     besides, the first two prompts as one left-padded batch (case `left-padded-batch`)

Random prompts can pass near a tie between two experts or two tokens, where rounding decides. The smallest distances
are measured, printed and kept in the json; if one is near float32 noise (about 1e-5), export another seed.
"""

import argparse
import json
import math
import os
import random
import sys
from pathlib import Path

INSTALL = "pip install -U torch transformers safetensors"
NEAR_TIE = 1e-4  # closer decisions than this are pointed out
OMNI, THINKER, TEXT = "qwen3_omni_moe", "qwen3_omni_moe_thinker", "qwen3_moe"
KEPT = 64  # longer prompts keep final norm and logits at this many positions only
PAD = 0  # the token that fills the shorter row of a batch; masked, so any will do

# Stands in for a tower that the checkpoint does not have: the reference cannot be built without, text never enters it.
NO_AUDIO = dict(d_model=8, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16, downsample_hidden_size=2)
NO_VISION = dict(depth=1, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, num_position_embeddings=16,
                 deepstack_visual_indexes=[0])


class Refused(Exception):
    """The request cannot be met; the message says what is wrong and what to do."""


# ---------------------------------------------------------------- request


def arguments():
    paragraphs = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=paragraphs[0], epilog=paragraphs[1], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder with config.json and safetensors")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="made if missing")
    parser.add_argument("--prompt", nargs="+", action="extend", default=[], metavar="TEXT")
    parser.add_argument("--prompt-ids", nargs="+", action="extend", default=[], metavar="IDS")
    parser.add_argument("--random-prompts", type=int, default=0, metavar="N")
    parser.add_argument("--length", type=int, default=24, metavar="L", help="tokens of a random prompt [24]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random prompts [0]")
    parser.add_argument("--batch", action="store_true", help="also the first two prompts as one left-padded batch")
    parser.add_argument("--steps", type=int, default=16, metavar="N", help="tokens of the greedy continuation [16]")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the arithmetic")
    args = parser.parse_args()
    for name, least in [("random_prompts", 0), ("length", 1), ("steps", 0)]:
        if getattr(args, name) < least:
            parser.error(f"--{name.replace('_', '-')} is {getattr(args, name)}, must be at least {least}")
    if not (args.prompt or args.prompt_ids or args.random_prompts):
        parser.error("nothing to run: give --prompt, --prompt-ids or --random-prompts")
    return args


def read_config(checkpoint):
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; CHECKPOINT is a folder with config.json and *.safetensors") from None
    except ValueError as error:
        raise Refused(f"{path}: not JSON: {error}") from None
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in (OMNI, THINKER, TEXT):
        raise Refused(f"{path}: model_type is {found!r}; only {OMNI}, {THINKER} and {TEXT} can be exported")
    if not isinstance(text_config(config), dict):
        raise Refused(f"{path}: text_config is missing; it must describe the decoder")
    if not any(checkpoint.glob("*.safetensors")):
        raise Refused(f"{checkpoint}: holds no *.safetensors; download or copy the weights there")
    return config


def thinker_config(config):
    """The thinker's configuration: a section of the file, or the file."""
    return config.get("thinker_config") or {} if config["model_type"] == OMNI else config


def text_config(config):
    """The decoder's configuration; none where it is missing."""
    return config if config["model_type"] == TEXT else thinker_config(config).get("text_config")


def end_token(config):
    """The id that ends an answer."""
    if config["model_type"] == OMNI:
        return config.get("im_end_token_id", 151645)
    end = config.get("im_end_token_id", config.get("eos_token_id"))
    return end[0] if isinstance(end, list) and end else end


def special_tokens(config):
    """Ids of special tokens, wherever the configuration names them."""
    both = [*config.items(), *thinker_config(config).items()]
    return {value for key, value in both if key.endswith("_token_id") and isinstance(value, int)}


def tokenizer_of(checkpoint):
    plain, parts = checkpoint / "tokenizer.json", [checkpoint / "vocab.json", checkpoint / "merges.txt"]
    if not plain.exists() and not all(part.exists() for part in parts):
        raise Refused(f"{checkpoint}: has no tokenizer (tokenizer.json, or vocab.json with merges.txt): "
                      "give token ids with --prompt-ids instead of --prompt")
    from transformers import AutoTokenizer
    try:
        return AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except Exception as error:
        raise Refused(f"{checkpoint}: transformers cannot load its tokenizer ({brief(error)}): "
                      "repair it or give token ids with --prompt-ids") from None


def prompts_of(args, config):
    """(case, description, token ids) of every prompt asked for."""
    text = text_config(config)
    vocabulary, context = text.get("vocab_size", 0), text.get("max_position_embeddings", math.inf)
    out = []
    if args.prompt:
        tokenizer = tokenizer_of(args.checkpoint)
        for n, prompt in enumerate(args.prompt, 1):
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            out.append((f"text-{n}", f"Prompt {prompt!r}", ids))
    for n, prompt in enumerate(args.prompt_ids, 1):
        try:
            ids = [int(part) for part in prompt.replace(",", " ").split()]
        except ValueError:
            raise Refused(f"--prompt-ids {prompt!r}: not a list of whole numbers such as '1 2 3'") from None
        out.append((f"ids-{n}", "Prompt of given token ids", ids))
    generator = random.Random(args.seed)
    special = special_tokens(config)
    plain = [token for token in range(vocabulary) if token not in special]
    for n in range(1, args.random_prompts + 1):
        ids = generator.choices(plain, k=args.length)
        out.append((f"random-{n}", f"Random prompt {n} of seed {args.seed}", ids))
    for case, _, ids in out:
        if not ids:
            raise Refused(f"{case}: the prompt is empty; give at least one token")
        wrong = [token for token in ids if not 0 <= token < vocabulary]
        if wrong:
            raise Refused(f"{case}: token {wrong[0]} is outside the vocabulary; ids go from 0 to {vocabulary - 1}")
        if len(ids) + args.steps > context:
            raise Refused(f"{case}: {len(ids)} tokens and {args.steps} steps exceed max_position_embeddings "
                          f"{context}; shorten the prompt or lower --steps")
    if args.batch and len(out) < 2:
        raise Refused("--batch needs two prompts, the shorter is padded; give another one")
    return out


# ---------------------------------------------------------------- reference


def load(checkpoint, config, dtype):
    """The reference thinker with all of the checkpoint's weights, and its version."""
    import torch
    import transformers
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    make, settings = reference_of(config)
    options = dict(dtype=getattr(torch, dtype), attn_implementation="eager")
    if int(transformers.__version__.split(".")[0]) >= 5:
        options["experts_implementation"] = "eager"
    try:
        model, info = make.from_pretrained(
            checkpoint, config=settings, local_files_only=True, output_loading_info=True, **options)
    except Exception as error:
        raise Refused(f"{checkpoint}: transformers {transformers.__version__} cannot load it: {brief(error)}; "
                      f"`sage inspect {checkpoint}` names what is missing or misshapen") from None
    # The reference fills what it does not find with random numbers.
    unread = [str(name) for kind in ("missing_keys", "mismatched_keys", "conversion_errors")
              for name in (info.get(kind) or []) if "audio_tower" not in str(name) and "visual" not in str(name)]
    if unread:
        raise Refused(f"{checkpoint}: the decoder lacks {len(unread)} of the weights that config.json asks for, first "
                      f"{sorted(unread)[0]}; `sage inspect {checkpoint}` names them all as the files do")
    reference = (f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, {dtype}, CPU, "
                 "eager attention, eager experts")
    return model.eval(), reference


def reference_of(config):
    """The class that runs the checkpoint's decoder, and its configuration."""
    import transformers
    old = int(transformers.__version__.split(".")[0]) < 5
    if config["model_type"] == TEXT:
        from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
        text = json.loads(json.dumps(config))
        text["output_router_logits"] = False
        if old:
            respell(text)
        return Qwen3MoeForCausalLM, Qwen3MoeConfig.from_dict(text)
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeThinkerForConditionalGeneration
    thinker = json.loads(json.dumps(thinker_config(config)))
    text = thinker["text_config"]
    width = text.get("hidden_size")
    if not thinker.get("audio_config"):
        thinker["audio_config"] = dict(NO_AUDIO, output_dim=width)
    if not thinker.get("vision_config"):
        thinker["vision_config"] = dict(NO_VISION, out_hidden_size=width)
    # transformers 4.57 looks for this flag in the decoder's configuration, 5.x in the thinker's.
    tied = bool(thinker.get("tie_word_embeddings") or text.get("tie_word_embeddings"))
    thinker["tie_word_embeddings"] = text["tie_word_embeddings"] = tied
    text["output_router_logits"] = False
    if old:
        respell(text)
    return Qwen3OmniMoeThinkerForConditionalGeneration, Qwen3OmniMoeThinkerConfig.from_dict(thinker)


def respell(text):
    """The rotary settings of a file saved by 5.x as 4.57 spells them."""
    if text.get("rope_parameters"):
        text["rope_scaling"] = text.pop("rope_parameters")
        text["rope_theta"] = text["rope_scaling"].get("rope_theta", text.get("rope_theta"))


def decoder_of(model):
    """The decoder, which versions keep in different places."""
    names = ("Qwen3OmniMoeThinkerTextModel", "Qwen3MoeModel")
    return next(module for module in model.modules() if type(module).__name__ in names)


def routers_of(model):
    """(layer, sparse block) of the layers that route."""
    layers = enumerate(decoder_of(model).layers)
    return [(index, layer.mlp) for index, layer in layers if hasattr(layer.mlp, "gate")]


def routing(block, output):
    """(logits, weights, indices) of a router: its own from 5.x on, where it returns them. In 4.57 the router is a bare
    matrix and the block around it chooses, so its few operations are repeated here."""
    import torch
    if isinstance(output, tuple):
        return output
    weights = torch.softmax(output, dim=-1, dtype=torch.float)
    weights, indices = torch.topk(weights, block.top_k, dim=-1)
    if block.norm_topk_prob:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return output, weights.to(output.dtype), indices


def router_gap(logits, chosen):
    """Smallest distance between the last chosen and the first rejected expert."""
    if not logits.numel() or chosen == logits.shape[-1]:
        return math.inf
    best = logits.float().topk(chosen + 1, dim=-1).values
    return (best[:, chosen - 1] - best[:, chosen]).min().item()


class Hooks:
    """Hooks for the time of a `with` block."""

    def __init__(self):
        self.handles = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def before(self, module, take):
        """`take(inputs)`, keyword arguments after the positional ones."""
        hook = lambda _module, args, named: take([*args, *named.values()])
        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module, take):
        """`take(output)`."""
        self.handles.append(module.register_forward_hook(lambda _module, _args, output: take(output)))


def prefill(model, ids, mask):
    """Every tensor of one pass over the prompts, and the smallest router gap of their tokens."""
    import torch
    decoder = decoder_of(model)
    real = mask.reshape(-1).bool()
    found, gaps = {}, [math.inf]

    def keep(name):
        def take(value):
            value = value[0] if isinstance(value, (tuple, list)) else value
            found[name] = value.detach().clone()
        return take

    def keep_routing(layer, block):
        def take(output):
            logits, weights, indices = (part.detach().clone() for part in routing(block, output))
            found[f"thinker.router_logits.{layer}"] = logits
            found[f"thinker.topk_weight.{layer}"] = weights
            found[f"thinker.topk_index.{layer}"] = indices
            gaps.append(router_gap(logits[real], indices.shape[-1]))
        return take

    with Hooks() as hooks:
        hooks.before(decoder.rotary_emb, lambda inputs: keep("thinker.position_ids")(inputs[1]))
        hooks.before(decoder.layers[0], keep("thinker.inputs_embeds"))
        for index, layer in enumerate(decoder.layers):
            hooks.after(layer, keep(f"thinker.layer_out.{index}"))
        for index, block in routers_of(model):
            hooks.after(block.gate, keep_routing(index, block))
        hooks.after(decoder.norm, keep("thinker.final_norm"))
        positions = {}
        if type(decoder).__name__ == "Qwen3MoeModel":  # which counts padding unless it is told not to
            positions["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        keep("thinker.logits")(model(input_ids=ids, attention_mask=mask, use_cache=True, **positions).logits)
    rows = ids.shape[0]
    found["thinker.position_ids"] = found["thinker.position_ids"].expand(3, rows, -1).float()
    # 4.57 keeps the offset in the outer model, 5.x in the inner one.
    deltas = [getattr(part, "rope_deltas", None) for part in (model, model.model)]
    delta = next((delta for delta in deltas if delta is not None), torch.zeros(rows))
    found["thinker.rope_delta"] = delta.reshape(-1).expand(rows).float()
    return found, min(gaps)


def continuation(model, ids, mask, steps, end):
    """Greedy tokens and raw logits with the cache, the router gap on the way, and the smallest margin of a token."""
    import torch
    from transformers import GenerationConfig
    rows = ids.shape[0]
    gaps = [math.inf]

    def watch(block):
        def take(output):
            logits, _, indices = routing(block, output)
            if len(logits) == rows:  # a step, not the prompt
                gaps.append(router_gap(logits, indices.shape[-1]))
        return take

    # What the checkpoint asks for (sampling, penalties, further end tokens) must not shine through.
    model.generation_config = GenerationConfig()
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=steps, eos_token_id=end, pad_token_id=PAD if end is None else end,
        output_logits=True,
        return_dict_in_generate=True)
    with Hooks() as hooks:
        for _, block in routers_of(model):
            hooks.after(block.gate, watch(block))
        made = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    tokens = made.sequences[:, ids.shape[1]:]
    logits = torch.stack(made.logits, dim=1)
    best = logits.float().topk(2, dim=-1).values
    margins = best[..., 0] - best[..., 1]
    is_end = tokens == (-1 if end is None else end)
    ended = is_end.int().cumsum(-1) - is_end.int() > 0  # padding after the end token
    return tokens, logits, min(gaps), margins[~ended].min().item()


# ---------------------------------------------------------------- goldens


def batch(prompts):
    """One left-padded pair of the first two prompts; of equal ones the second is cut, or nothing would be padded."""
    first, second = prompts[0][2], prompts[1][2]
    if len(first) == len(second) and len(second) > 1:
        second = second[: max(1, len(second) * 2 // 3)]
    width = max(len(first), len(second))
    description = (f"Batch of the prompts {prompts[0][0]} and {prompts[1][0]} ({len(first)} and {len(second)} tokens), "
                   "the shorter left-padded. Values at padded positions are meaningless; rows of router tensors are "
                   "batch-major")
    rows = [[PAD] * (width - len(row)) + row for row in (first, second)]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in (first, second)]
    return "left-padded-batch", description, rows, mask


def export(model, reference, args, end, case, description, rows, mask):
    import torch
    ids, mask = torch.tensor(rows), torch.tensor(mask)
    with torch.inference_mode():
        found, gap = prefill(model, ids, mask)
        found["in.input_ids"], found["in.attention_mask"] = ids, mask
        measured = {"min_router_logit_gap": gap}
        if args.steps:
            tokens, logits, later, margin = continuation(model, ids, mask, args.steps, end)
            found["greedy.tokens"], found["greedy.logits"] = tokens, logits
            measured["min_router_logit_gap_with_continuation"] = min(gap, later)
            measured["min_greedy_margin"] = margin
    length = ids.shape[1]
    if len(rows) == 1 and length > KEPT:
        kept = torch.linspace(0, length - 1, KEPT).round().long()
        found["kept_positions"] = kept
        for name in ("thinker.final_norm", "thinker.logits"):
            found[name] = found[name][:, kept]
        description += "; final norm and logits only at kept_positions"
    bad = sorted(name for name, value in found.items() if not torch.isfinite(value.float()).all())
    if bad:
        raise Refused(f"{case}: the reference computes NaN or infinity in {bad[0]}; the checkpoint is damaged")
    about = {
        "case": case,
        "description": description + ".",
        "reference": reference,
        "flags": {},
        "measured": {name: value if math.isfinite(value) else None for name, value in measured.items()},
    }
    if args.dtype != "float32":
        about["orientation_only"] = True
    write(args.out, case, found, about)
    return measured


def write(folder, case, found, about):
    """Both files appear whole or not at all."""
    from safetensors.torch import save
    tensors = {name: value.contiguous().clone() for name, value in sorted(found.items())}
    about["tensors"] = {name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
                        for name, value in tensors.items()}
    paths = [folder / f"{case}.safetensors", folder / f"{case}.json"]
    beside = [path.with_name(f".{path.name}.partial") for path in paths]
    try:
        beside[0].write_bytes(save(tensors))
        beside[1].write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        for path, temporary in zip(paths, beside):
            os.replace(temporary, path)
    finally:
        for temporary in beside:
            temporary.unlink(missing_ok=True)


def brief(error):
    """An error in one line, without a library's reference to a report that is not shown."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]).split(" For details look at")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def stop(code, message):
    print(f"export_goldens: {message}", file=sys.stderr)
    sys.exit(code)


def main():
    args = arguments()
    config = read_config(args.checkpoint)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"--out {args.out}: {error.strerror}; give a folder that can be written") from None
    prompts = prompts_of(args, config)
    cases = [(case, description, [ids], [[1] * len(ids)]) for case, description, ids in prompts]
    if args.batch:
        cases.append(batch(prompts))
    model, reference = load(args.checkpoint, config, args.dtype)
    print(f"{args.checkpoint}: loaded with {reference}")
    end = end_token(config)
    for case, description, rows, mask in cases:
        measured = export(model, reference, args, end, case, description, rows, mask)
        shown = ", ".join(f"{name} {value:.2e}" for name, value in measured.items())
        print(f"{args.out / case}.safetensors: {len(rows)} x {len(rows[0])} tokens, {shown}")
        for name, value in measured.items():
            if value < NEAR_TIE:
                print(f"  near a tie ({name} {value:.2e}): a difference there may be rounding; try other prompts")
    print(f"compare: sage verify {args.checkpoint} --goldens {args.out}")


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        stop(2, str(refused))
    except ImportError as error:
        stop(2, f"{error}; install the reference implementation (transformers 4.57 or newer): {INSTALL}")
    except OSError as error:
        stop(3, f"{error.filename or 'file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        stop(3, "interrupted; cases already written are whole")
