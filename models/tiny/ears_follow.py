"""The tower of one thinker made into that of another that was trained on from it.

What the tower heard stays as it is; only its last matrix changes, by the linear map that takes the old embeddings of what
can be said nearest to the new ones (least squares, with a little weight decay).
"""

import dataclasses

import torch

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
    return out
