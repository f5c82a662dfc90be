"""The audio tower of Qwen3-Omni in PyTorch; its parameters are named as in the checkpoint."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Ears:
    """`audio_config`, as far as it is not the released model's own."""

    d_model: int = 128
    encoder_layers: int = 4
    encoder_attention_heads: int = 4
    encoder_ffn_dim: int = 384
    downsample_hidden_size: int = 16
    output_dim: int = 128
    num_mel_bins: int = 128
    n_window: int = 50
    n_window_infer: int = 800


def steps(frames):
    """What three convolutions of stride two leave of `frames`."""
    for _ in range(3):
        frames = (frames + 1) // 2
    return frames


def tokens(frames):
    """Placeholders of a clip of that many mel frames."""
    return 13 * (frames // 100) + steps(frames % 100)


class Attention(nn.Module):
    """Both ways, inside a window."""

    def __init__(self, s):
        super().__init__()
        self.heads = s.encoder_attention_heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(s.d_model, s.d_model))

    def forward(self, x, mask):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x)),
                                           attn_mask=mask)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.self_attn = Attention(s)
        self.self_attn_layer_norm = nn.LayerNorm(s.d_model)
        self.fc1 = nn.Linear(s.d_model, s.encoder_ffn_dim)
        self.fc2 = nn.Linear(s.encoder_ffn_dim, s.d_model)
        self.final_layer_norm = nn.LayerNorm(s.d_model)

    def forward(self, x, mask):
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Tower(nn.Module):
    """Mel spectrograms of one call -> rows for the thinker."""

    def __init__(self, shape=Ears()):
        super().__init__()
        self.shape, s = shape, shape
        wide = s.downsample_hidden_size
        self.conv2d1 = nn.Conv2d(1, wide, 3, 2, 1)
        self.conv2d2 = nn.Conv2d(wide, wide, 3, 2, 1)
        self.conv2d3 = nn.Conv2d(wide, wide, 3, 2, 1)
        self.conv_out = nn.Linear(wide * steps(s.num_mel_bins), s.d_model, bias=False)
        self.layers = nn.ModuleList(Block(s) for _ in range(s.encoder_layers))
        self.ln_post = nn.LayerNorm(s.d_model)
        self.proj1 = nn.Linear(s.d_model, s.d_model)
        self.proj2 = nn.Linear(s.d_model, s.output_dim)

    def sinusoids(self, count):
        half = self.shape.d_model // 2
        angle = torch.arange(count).unsqueeze(1) * 10000.0 ** (-torch.arange(half) / (half - 1))
        return torch.cat((angle.sin(), angle.cos()), 1)

    def forward(self, clips):
        """clips: [128, frames] each.  Returns the rows of all clips, one after the other.

        A call's chunks are padded to its longest, so what a clip sounds like depends on the clips that
        share its call; clips of equal length do not change each other.
        """
        s, size = self.shape, 2 * self.shape.n_window
        chunks = [c[:, at:at + size] for c in clips for at in range(0, c.shape[1], size)]
        longest = max(c.shape[1] for c in chunks)
        x = torch.stack([F.pad(c, (0, longest - c.shape[1])) for c in chunks]).unsqueeze(1)
        for conv in (self.conv2d1, self.conv2d2, self.conv2d3):
            x = F.gelu(conv(x))
        x = self.conv_out(x.permute(0, 3, 1, 2).flatten(2))
        x = x + self.sinusoids(x.shape[1])
        x = torch.cat([row[:steps(c.shape[1])] for row, c in zip(x, chunks)])
        # windows: pieces of a clip, padded to the longest window and masked
        window = steps(longest) * (s.n_window_infer // size)
        pieces, at = [], 0
        for clip in clips:
            end = at + sum(steps(min(size, clip.shape[1] - n)) for n in range(0, clip.shape[1], size))
            pieces += [range(n, min(n + window, end)) for n in range(at, end, window)]
            at = end
        most = max(map(len, pieces))
        place = torch.tensor([list(p) + [p[-1]] * (most - len(p)) for p in pieces])
        real = torch.tensor([[n < len(p) for n in range(most)] for p in pieces])
        mask = None if bool(real.all()) else real[:, None, None, :]
        x = x[place]
        for layer in self.layers:
            x = layer(x, mask)
        return self.proj2(F.gelu(self.proj1(self.ln_post(x[real]))))
