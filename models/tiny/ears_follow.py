#!/usr/bin/env python3
"""After the thinker was trained further: the tower's rows are brought from the old embeddings to the new ones.

    pip install torch numpy tokenizers safetensors
    python3 models/tiny/ears_follow.py --first FOLDER

FOLDER holds the old thinker with its tower, this folder the new thinker.  What the tower heard stays as it is; only its
last matrix changes, by the linear map that takes the old embeddings of what can be said nearest to the new ones (least
squares, with a little weight decay).  Writes the shard, its part of the index and of config.json, and the fixtures.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from tokenizers import Tokenizer

import ears
import ears_export
import export
from ears import CASES, FIXTURES, HERE
from ears_tower import Tower

DECAY = 0.03            # of the map, in units of the mean square of an embedding's number


@torch.no_grad()
def linear_map(old, new):
    """(matrix [in, out], offset [out]) that takes rows of `old` nearest to rows of `new`."""
    centre_old, centre_new = old.mean(0), new.mean(0)
    a, b = old - centre_old, new - centre_new
    gram = a.t() @ a + DECAY * a.square().mean() * len(a) * torch.eye(a.shape[1])
    matrix = torch.linalg.solve(gram, a.t() @ b)
    return matrix, centre_new - centre_old @ matrix


@torch.no_grad()
def followed(tower, old, new, classes):
    """The tower for the thinker `new`, made from that for `old`."""
    matrix, offset = linear_map(old.embed[classes].double(), new.embed[classes].double())
    out = Tower(dataclasses.replace(tower.shape, output_dim=new.shape.hidden))
    state = tower.state_dict()
    state["proj2.weight"] = (matrix.t() @ state["proj2.weight"].double()).float()
    state["proj2.bias"] = (state["proj2.bias"].double() @ matrix + offset).float()
    out.load_state_dict(state)
    return ears.rounded(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", type=Path, required=True, help="the old thinker's folder, with its tower")
    first = parser.parse_args().first
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    old, new = export.read(first), export.read(HERE).requires_grad_(False)
    tower = followed(ears_export.read(first), old, new, ears.classes_of(tokenizer))
    ears_export.write(tower, HERE)
    ears_export.write_cases(ears_export.read(HERE), new, tokenizer, HERE, FIXTURES / "ears", CASES)
    ears.measure_sounds(ears_export.read(HERE), new, tokenizer)


if __name__ == "__main__":
    main()
