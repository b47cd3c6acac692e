"""Gated PixelCNN: convolutions that see the pixels before each one, in raster order, and no other.

The same layers run over a whole image, over one row and over one pixel. What comes before is zeros at the borders of an
image; of a row or a pixel, it is what was kept of those before it (`distributions.RasterScan`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.conv import at_size, convolve_inside, image_channels
from vae_jax.networks.gated import Gate, with_ones
from vae_jax.networks.mlp import split
from vae_jax.spec import BadOption, flags, integers, numbers, sizes


class GatedPixelCNN(nn.Module):
    """arXiv:1606.05328 sec. 2.2 and 2.3: `outputs` [H, W, ...] at every pixel from the pixels of x [H, W, C] before it.

    Two stacks of gated layers, one of each for every entry of `channels`: v[i, j] sees the rows above i, h[i, j] the
    pixels left of j as well. With * a convolution of so many rows x columns, n the kernel (`first_kernel`, then
    `kernel`), c the context, a vector or the pixel's part of a map [H, W, F], gate(a, b) = tanh(a) ⊙ σ(b), and each W
    and V one of its own,

        a = W * v  (⌈n/2⌉ x n),    v ← gate(a + V c),    h ← h + W gate(W * h + W a + V c)  (1 x ⌈n/2⌉),

    without "h +" where the width changes. v begins as x moved down by a row, h as x moved right by a column, with a
    plane that is one inside the image: no weight is masked, and no pixel above goes unseen. `dilations`, one for every
    layer and () for 1, set the rows and columns of a kernel apart: few layers then see far (arXiv:1511.07122). With
    `shortcuts` the last layers see the first again, as in PixelCNN++ (arXiv:1701.05517 sec. 2.4): with v' or h' what
    layer L + 1 - l has put out, l > L/2 + 1, the gates of layer l are given W v' or W h' as well. `hidden` are the
    widths of the layers from h to the outputs; `dropout` leaves gated units out at this rate, where there is a key
    "dropout".

    Raises `ValueError` for a kernel of even size, dilations below 1 or not one for every layer, a dropout outside
    [0, 1), and outputs that are not of an image.
    """

    outputs: tuple
    channels: tuple = (32, 32, 32, 32, 32, 32)
    kernel: int = 3
    first_kernel: int = 7
    hidden: tuple = (64,)
    dilations: tuple = ()
    shortcuts: bool = False
    dropout: float = 0.0
    zero_output: bool = False

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.dropout > 0

    def __post_init__(self):
        sizes(channels=self.channels, at_least_one=True)
        sizes(hidden=self.hidden, dilations=self.dilations)
        flags(shortcuts=self.shortcuts, zero_output=self.zero_output)
        numbers(dropout=self.dropout, at_least=0, below=1)
        image_channels(self.outputs)
        most = 2 * max(self.outputs[0][:2]) + 1  # what lies further away is never in the image
        for name in ("first_kernel", "kernel"):
            size = getattr(self, name)
            integers(**{name: size}, at_most=most)
            if size % 2 == 0:
                raise BadOption(f"{name} must be odd, as wide to the left as to the right, got {size}")
        if self.dilations and len(self.dilations) != len(self.channels):
            raise BadOption(
                f"dilations must be one for each of the {len(self.channels)} layers of `channels`, got {self.dilations}"
            )
        super().__post_init__()

    def setup(self):
        layers = [(*layer, self.dropout) for layer in zip(self.channels, self.sides(), self.apart(), strict=True)]
        self.down = [Vertical(*layer) for layer in layers]
        self.across = [Horizontal(*layer) for layer in layers]
        self.at_a_pixel = [nn.Dense(width) for width in self.hidden]
        init = nn.initializers.zeros if self.zero_output else nn.initializers.lecun_normal()
        self.last = nn.Dense(sum(image_channels(self.outputs)), kernel_init=init)

    def __call__(self, x, context=None):
        no_rows, no_pixels = self.start(*x.shape)
        context = part_of(at_size(context, x.shape))
        given, _ = self.rows(jnp.pad(with_ones(x[:-1]), ((1, 0), (0, 0), (0, 0))), no_rows, context)
        left = jnp.pad(with_ones(x[:, :-1]), ((0, 0), (1, 0), (0, 0)))
        return self.pixels(left, given, no_pixels, context)[0]

    def row(self, above, kept, i, context=None):
        """Row i - 1 [W, C], any for i = 0 -> what each layer keeps; what it gives to the pixels of row i [W, ...]."""
        given, kept = self.rows((with_ones(above) * (i > 0))[None], kept, part_of(context, i))
        return kept, jax.tree.map(lambda a: a[0], given)

    def step(self, left, kept, i, j, given, context=None):
        """Pixel i, j - 1 [C], any for j = 0 -> what each layer keeps; the outputs of pixel i, j."""
        left, given = jax.tree.map(lambda a: a[None, None], (with_ones(left) * (j > 0), given))
        outputs, kept = self.pixels(left, given, kept, part_of(context, i, j))
        return kept, tuple(a[0, 0] for a in outputs)

    def start(self, height, width, num_channels):
        """What is kept, by layer, of the rows above an image, and of the pixels on the left of `height` rows: zeros."""
        sizes = list(zip(self.reaches(), (num_channels + 1, *self.channels[:-1]), strict=True))
        return [jnp.zeros((n, width, size)) for n, size in sizes], [jnp.zeros((height, n, size)) for n, size in sizes]

    def rows(self, above, kept, context=None):
        """[R, W, C + 1] -> what each layer gives to the pixels of the rows below these, and what it keeps."""
        v, steps, passed = above, [], []
        for layer, past in zip(self.down, kept, strict=True):
            v, *step = layer(v, past, context, self.early(passed))
            steps.append(step)
            passed.append(v)
        return tuple(map(list, zip(*steps, strict=True)))

    def pixels(self, left, given, kept, context=None):
        """[R, S, C + 1] -> the outputs of the pixels right of these, and what each layer keeps."""
        h, now, passed = left, [], []
        for layer, past, from_above in zip(self.across, kept, given, strict=True):
            h, past = layer(h, past, from_above, context, self.early(passed))
            now.append(past)
            passed.append(h)
        for dense in self.at_a_pixel:
            h = jax.nn.relu(dense(jax.nn.relu(h)))
        pieces = split(self.last(h), image_channels(self.outputs))
        shapes = [(*h.shape[:2], *shape[2:]) for shape in self.outputs]
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)), now

    def early(self, passed):
        """Of what the layers have put out so far, what the next one is given by a shortcut; None for none."""
        mirrored = len(self.channels) - 1 - len(passed)
        return passed[mirrored] if self.shortcuts and mirrored < len(passed) - 1 else None

    def reaches(self):
        """How far each layer reaches up, left and (above) right."""
        return [side * apart for side, apart in zip(self.sides(), self.apart(), strict=True)]

    def sides(self):
        return [n // 2 for n in (self.first_kernel, *[self.kernel] * (len(self.channels) - 1))]

    def apart(self):
        return self.dilations or (1,) * len(self.channels)


class Vertical(nn.Module):
    """v [R, W, F] and the `side` · `apart` rows before it -> the next v, what it gives to the horizontal stack, what to
    keep.
    """

    features: int
    side: int
    apart: int
    dropout: float

    @nn.compact
    def __call__(self, v, past, context, early):
        seen = jnp.concatenate([past, v])
        columns = (self.side * self.apart,) * 2
        a = Windows(2 * self.features, (self.side + 1, 2 * self.side + 1), self.apart)(
            jnp.pad(seen, ((0, 0), columns, (0, 0)))
        )
        a = a if early is None else a + nn.Dense(2 * self.features, use_bias=False)(early)
        return Gate(self.dropout)(a, context), a, seen[len(v) :]


class Horizontal(nn.Module):
    """h [R, S, F] and the `side` · `apart` pixels before each of its rows -> the next h, what to keep."""

    features: int
    side: int
    apart: int
    dropout: float

    @nn.compact
    def __call__(self, h, past, from_above, context, early):
        seen = jnp.concatenate([past, h], axis=1)
        a = Windows(2 * self.features, (1, self.side + 1), self.apart)(seen) + nn.Dense(2 * self.features)(from_above)
        a = a if early is None else a + nn.Dense(2 * self.features, use_bias=False)(early)
        y = nn.Dense(self.features)(Gate(self.dropout)(a, context))
        return (h + y if h.shape == y.shape else y), seen[:, h.shape[1] :]


class Windows(nn.Module):
    """An affine map of every window of `shape` (rows, columns), so many places `apart`, that lies inside."""

    features: int
    shape: tuple
    apart: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (*self.shape, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve_inside(x, kernel, self.apart) + bias[None, None]


def part_of(context, *place):
    """Of a map its row i, or its pixel i, j, or all of it, as a map; of a vector one place, [1, 1, F], which is every
    pixel's: slices are clamped.
    """
    if context is None:
        return None
    context = context if context.ndim == 3 else context[None, None]
    for axis, n in enumerate(place):
        context = jax.lax.dynamic_slice_in_dim(context, n, 1, axis)
    return context
