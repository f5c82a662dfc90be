"""Muon: momentum whose matrices are orthogonalised before they are applied."""

import torch

from model import fast_type

FAST = fast_type()

def orthogonalise(g, steps=5):
    """Nearest semi-orthogonal matrices of g [..., rows, columns], by a quintic Newton-Schulz iteration.

    Coefficients of K. Jordan (2024), "Muon: an optimizer for hidden layers"; bf16 is enough.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.to(FAST)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = product(x, product(gram, gram, gram, b, c), x, a, 1.0)
    return x.mT if tall else x


def product(z, x, y, beta, alpha):
    """beta z + alpha x y, of one matrix or of stacks of them."""
    return (torch.addmm if z.dim() == 2 else torch.baddbmm)(z, x, y, beta=beta, alpha=alpha)


class Muon(torch.optim.Optimizer):
    """For matrices of hidden layers, single or stacked along leading dimensions.

    The update has the size that AdamW's would have (0.2 * sqrt(larger side); Liu et al. 2025,
    "Muon is scalable for LLM training"), so both share a learning rate.
    """

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                held = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(held, group["momentum"])
                # gate and up stand side by side, but are two matrices
                parts = update.chunk(group["matrices"], -1)
                scale = 0.2 * max(parts[0].shape[-2:]) ** 0.5
                done = torch.cat([orthogonalise(u) for u in parts], -1)
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(done.to(p.dtype), alpha=-group["lr"] * scale)
