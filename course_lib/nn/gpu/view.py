"""x as the kernels see it, the slices in it, and the sizes of the tiles in which programs take them."""

from math import prod

import torch

TILE, TILE_BACKWARD = 32768, 16384  # entries of x in one program; the backward pass holds dy as well
PART = 4096  # entries of a program that sees a part of a slice


class View:
    """x as the kernels see it: (n, c, s), contiguous or with the channels last, and the slices in it.

    A slice has k channels of s entries; a sample has `groups` of them.  With
    `across`, batch norm, a slice reaches over all samples.  Rows of `features`
    are samples of one channel; only `tile` sees them as channels of one entry.

    Args:
        x: not empty.
        kind, count: of an `Over`.
    """

    def __init__(self, x, kind, count):
        self.given, self.across, self.features = x, kind == "batch", kind == "last"
        if self.features:
            self.x, self.last = x.contiguous(), False
            self.s = prod(x.shape[x.ndim - count:])
            self.n, self.c, self.groups, self.k = x.numel() // self.s, 1, 1, 1
        else:
            self.n, self.c, self.s = x.shape[0], x.shape[1], prod(x.shape[2:])
            self.groups = count if kind == "group" else self.c
            self.k = self.c // self.groups
            self.x = x if channels_last(x) else x.contiguous()
            self.last = channels_last(self.x)
        self.slices = self.groups * (1 if self.across else self.n)
        if self.n * self.c >= 2**30 or (self.c >= 2**19 and self.s > 1):
            raise ValueError(f"x of shape {tuple(x.shape)} has {self.n} x {self.c} maps, more than the kernels can "
                             "count; with use_kernels(False) the torch lines take it")

    def back(self, y):
        """The result with the strides of x as it came."""
        return y if self.x is self.given else torch.empty_like(self.given).copy_(y)

    def like(self, a):
        """The tensor with the memory layout that the kernels see."""
        return torch.empty_like(self.x, dtype=a.dtype).copy_(a) if a.stride() != self.x.stride() else a

    def fits_forward(self):
        """Does one program hold a slice, and write its y?"""
        return self._fits(TILE)

    def fits_backward(self):
        """Does one program hold a slice, and write its dx?"""
        return self._fits(TILE_BACKWARD)

    def _fits(self, limit):
        """Does a slice lie in one piece, no longer than the limit?"""
        return not self.across and (not self.last or self.s == 1) and self._padded() <= limit

    def _padded(self):
        return power_of_2(self.k) * power_of_2(self.s)

    def tile(self):
        """Sizes of a tile of whole slices: short ones go together, to about 2048 entries."""
        rows = min(max(1, 2048 // self._padded()), power_of_2(self.slices))
        k, s = (self.s, 1) if self.features else (self.k, self.s)
        return {"G": self.groups, "K": k, "S": s, "ROWS": rows, "BK": power_of_2(k), "BS": power_of_2(s),
                "num_warps": warps_for(rows * self._padded(), 16)}

    def tile_grid(self):
        return (-(-self.slices // self.tile()["ROWS"]),)

    def part(self, window=False):
        """Sizes of a tile that sees parts of slices: about PART entries.

        A window looks at neighbour channels, so that its tile has many of them,
        and at so many that fewer entries fit into registers.
        """
        part = PART // 4 if window else PART
        bc = min(power_of_2(self.c), 64 if self.last else 8 if window else 1)
        bs = min(part // bc, power_of_2(self.s))
        bn = min(part // bc // bs, power_of_2(self.n)) if self.across else 1
        return {"BC": bc, "BN": bn, "BS": bs, "num_warps": warps_for(bc * bn * bs, 8 if window else 16)}

    def part_grid(self, window=False):
        size = self.part(window)
        return (-(-self.c // size["BC"]) * -(-self.s // size["BS"]) * -(-self.n // size["BN"]),)

    def parts(self, sums):
        """Room for some sums of each part of each channel."""
        size = self.part()
        stretches, blocks = -(-self.s // size["BS"]), -(-self.n // size["BN"])
        shape = (sums, 1, self.c, blocks * stretches) if self.across else (sums, self.n, self.c, stretches)
        return self.x.new_empty(shape, dtype=torch.float32)

    def per_channel(self):
        """Room for a sum of each channel of each sample, or of each channel."""
        return self.x.new_empty((1 if self.across else self.n, self.c), dtype=torch.float32)

    def sizes(self):
        return {"C": self.c, "K": self.k, "S": self.s, "ACROSS": self.across, "LAST": self.last,
                "FEATURES": self.features}


def channels_last(x):
    """Do the channels lie together?  So they do where there is one position, and where samples are mere rows."""
    if x.ndim == 2 or prod(x.shape[2:]) == 1:
        return x.is_contiguous()
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return (x.ndim in formats and x.is_contiguous(memory_format=formats[x.ndim]) and not x.is_contiguous()) or (
        x.ndim == 3 and not x.is_contiguous() and x.mT.is_contiguous())


def power_of_2(n):
    """The smallest power of 2 that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def warps_for(entries, each):
    """Warps of 32 threads, for `each` entries a thread."""
    return min(32, max(1, power_of_2(entries) // (32 * each)))
