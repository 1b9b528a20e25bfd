"""Which entries share statistics: the one choice that makes a layer, from its name down to its kernel."""

from typing import NamedTuple


class Over(NamedTuple):
    """The table of `course_lib.norms` in words.

        "batch"       a channel, over N and *S: batch norm
        "map"         a channel of one sample, over *S: instance norm, filter response norm
        "group", g    one of g groups of channels of one sample, with *S: group norm
        "last", n     the last n axes: layer norm, RMS norm
        "axes", axes  any axes, those of `standardize`; no layer
    """

    kind: str
    count: int | tuple[int, ...] = 0

    def axes(self, ndim):
        """The axes to reduce, of `split(x)` where x has `ndim` axes."""
        match self.kind:
            case "batch":
                return 0, *range(2, ndim)
            case "map":
                return tuple(range(2, ndim))
            case "group":
                return tuple(range(2, ndim + 1))
            case "last":
                return tuple(range(ndim - self.count, ndim))
            case "axes":
                return self.count

    def param_axes(self, ndim):
        """The axes of x that gamma and beta have; with "axes" there are none."""
        return {"last": self.axes(ndim), "axes": ()}.get(self.kind, (1,))

    def split(self, x):
        """x with an axis for the groups, so that a slice is whole axes."""
        return x.unflatten(1, (self.count, x.shape[1] // self.count)) if self.kind == "group" else x

    def joined(self, y):
        """The way back from `split`."""
        return y.flatten(1, 2) if self.kind == "group" else y

    def lift(self, parameter, ndim):
        """gamma, beta or a learned eps with its axes where those of `split(x)` are; None and numbers stay."""
        if getattr(parameter, "ndim", 0) == 0 or self.kind == "axes":
            return parameter
        shape = [1] * ndim
        for axis, size in zip(self.param_axes(ndim), parameter.shape):
            shape[axis] = size
        return self.split(parameter.reshape(shape))

    def kept(self, x):
        """The shape of the statistics."""
        axes = self.axes(x.ndim)
        return [1 if axis in axes else n for axis, n in enumerate(self.split(x).shape)]


BATCH, MAP = Over("batch"), Over("map")
