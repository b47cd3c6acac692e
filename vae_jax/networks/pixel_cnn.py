"""Gated PixelCNN: convolutions that see only the earlier pixels, in raster order.

The same layers run over a whole image, over one row and over one pixel. They are preceded by zeros at the border of an
image, and by the state of the earlier rows or pixels otherwise (`distributions.RasterScan`).
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.conv import at_size, convolve_inside, image_channels
from vae_jax.networks.gated import Gate, with_ones
from vae_jax.networks.mlp import split
from vae_jax.spec import BadOption, flags, integers, numbers, sizes

DIFFERENCES = 8.0  # the scale of differences of neighbouring pixels, on which 1 is half of black to white


class GatedPixelCNN(nn.Module):
    """Gated PixelCNN, arXiv:1606.05328 sec. 2.2, 2.3: `outputs` [H, W, ...] from the earlier pixels of x [H, W, C].

    Each entry of `channels` is one layer in each of two stacks: v[i, j] sees the rows above i, h[i, j] also the pixels
    left of j. Let * be a convolution with a kernel of rows x columns, and n its size (`first_kernel`, then `kernel`).
    Let c be the context: a vector, or the pixel of an image [h, w, F] that is nearest. With gate(a, b) = tanh(a) ⊙ σ(b)
    and different weights for each W and V,

        a = W * v  (⌈n/2⌉ x n),    v ← gate(a + V c),    h ← h + W gate(W * h + W a + V c)  (1 x ⌈n/2⌉),

    without "h +" where the width changes. v begins as x moved down by one row, h as x moved right by one column; a
    further plane is one inside the image. No weight is masked, and every pixel above is seen.

    `dilations`, one for every layer or () for none, space the rows and columns of a kernel apart: few layers then see
    far, arXiv:1511.07122. With `shortcuts` the last layers see the first ones, as in PixelCNN++, arXiv:1701.05517 sec.
    2.4. Let v' and h' be the outputs of layer L + 1 - l: for l > L/2 + 1 the gates of layer l also see W v' or W h'.
    `hidden` are the widths of the layers from h to the outputs. `dropout` is the rate at which gated units are dropped,
    if there is a key "dropout".

    With `colours` C > 0 a place of x holds pixels of C colours, and the first layer sees only their differences: for
    every colour its kernels W sum to zero over rows, columns and pixels. A constant added to a colour then changes
    nothing in it, except at the border. Since neighbours are alike, these kernels are multiplied by 8. All outputs get
    a linear function of the same windows, W * v + W * h with free W, which can copy a neighbour or continue a slope.
    It helps where images differ from those of training.

    Raises `BadOption` for a kernel of even size, for a dropout outside [0, 1), and for outputs that are not images.
    Dilations must be at least 1, one for every layer. Raises `ValueError` for a place that is not whole pixels.
    """

    outputs: tuple
    channels: tuple = (32, 32, 32, 32, 32, 32)
    kernel: int = 3
    first_kernel: int = 7
    hidden: tuple = (64,)
    dilations: tuple = ()
    shortcuts: bool = False
    dropout: float = 0.0
    colours: int = 0
    zero_output: bool = False

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.dropout > 0

    def __post_init__(self):
        sizes(channels=self.channels, at_least_one=True)
        sizes(hidden=self.hidden, dilations=self.dilations)
        flags(shortcuts=self.shortcuts, zero_output=self.zero_output)
        integers(colours=self.colours, at_least=0)
        numbers(dropout=self.dropout, at_least=0, below=1)
        image_channels(self.outputs)
        most = 2 * max(self.outputs[0][:2]) + 1  # a larger kernel reaches only beyond the image
        for name in ("first_kernel", "kernel"):
            size = getattr(self, name)
            integers(**{name: size}, at_most=most)
            if size % 2 == 0:
                raise BadOption(f"{name} must be odd, got {size}")
        if self.dilations and len(self.dilations) != len(self.channels):
            raise BadOption(
                f"dilations must have one entry for each of the {len(self.channels)} `channels`, got {self.dilations}"
            )
        super().__post_init__()

    def setup(self):
        sides, apart, size = self.sides(), self.apart(), sum(image_channels(self.outputs))
        colours = (self.colours, *[0] * (len(sides) - 1))
        layers = [(*layer, self.dropout) for layer in zip(self.channels, sides, apart, colours, strict=True)]
        self.down = [Vertical(*layer) for layer in layers]
        self.across = [Horizontal(*layer) for layer in layers]
        self.at_a_pixel = [nn.Dense(width) for width in self.hidden]
        init = nn.initializers.zeros if self.zero_output else nn.initializers.lecun_normal()
        self.last = nn.Dense(size, kernel_init=init)
        if self.colours:
            self.linear_above = Windows(size, (sides[0] + 1, 2 * sides[0] + 1), apart[0], kernel_init=init)
            self.linear_left = Windows(size, (1, sides[0] + 1), apart[0], kernel_init=init)

    def __call__(self, x, context=None):
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32  # bits may be integers
        no_rows, no_pixels = jax.tree.map(lambda a: a.astype(dtype), self.start(*x.shape))
        context = part_of(at_size(context, x.shape))
        from_above, _ = self.rows(jnp.pad(with_ones(x[:-1]), ((1, 0), (0, 0), (0, 0))), no_rows, context)
        left = jnp.pad(with_ones(x[:, :-1]), ((0, 0), (1, 0), (0, 0)))
        return self.pixels(left, from_above, no_pixels, context)[0]

    def row(self, above, state, i, context=None):
        """Return the state of each layer, and the features of row i [W, ...] for its pixels.

        `above` is row i - 1 [W, C], not used at i = 0.
        """
        features, state = self.rows((with_ones(above) * (i > 0))[None], state, part_of(context, i))
        return state, jax.tree.map(lambda a: a[0], features)

    def step(self, left, state, i, j, from_above, context=None):
        """Return the state of each layer, and the outputs of pixel i, j.

        `left` is pixel i, j - 1 [C], not used at j = 0. `from_above` are the features of `row` at this pixel.
        """
        left, from_above = jax.tree.map(lambda a: a[None, None], (with_ones(left) * (j > 0), from_above))
        outputs, state = self.pixels(left, from_above, state, part_of(context, i, j))
        return state, tuple(a[0, 0] for a in outputs)

    def start(self, height, width, num_channels):
        """Return zeros in place of the rows above an image, and of the pixels left of `height` rows, for each layer."""
        sizes = list(zip(self.reaches(), (num_channels + 1, *self.channels[:-1]), strict=True))
        return [jnp.zeros((n, width, size)) for n, size in sizes], [jnp.zeros((height, n, size)) for n, size in sizes]

    def rows(self, above, state, context=None):
        """Return the features that each layer has for the rows below `above` [R, W, C + 1], and its state."""
        linear = None
        if self.colours:
            linear = self.linear_above(between_zeros(jnp.concatenate([state[0], above]), self.reaches()[0]))
        v, steps, passed = above, [], []
        for layer, past in zip(self.down, state, strict=True):
            v, *step = layer(v, past, context, self.early(passed))
            steps.append(step)
            passed.append(v)
        features, state = map(list, zip(*steps, strict=True))
        return (features, linear), state

    def pixels(self, left, from_above, state, context=None):
        """Return the outputs of the pixels right of `left` [R, S, C + 1], and the state of each layer."""
        above, linear = from_above
        h, now, passed = left, [], []
        for layer, past, features in zip(self.across, state, above, strict=True):
            h, past = layer(h, past, features, context, self.early(passed))
            now.append(past)
            passed.append(h)
        for dense in self.at_a_pixel:
            h = jax.nn.relu(dense(jax.nn.relu(h)))
        outputs = self.last(h)
        if self.colours:
            outputs = outputs + linear + self.linear_left(jnp.concatenate([state[0], left], axis=1))
        pieces = split(outputs, image_channels(self.outputs))
        shapes = [(*h.shape[:2], *shape[2:]) for shape in self.outputs]
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)), now

    def early(self, passed):
        """Return the output of an earlier layer that the next layer sees by a shortcut; None if there is none."""
        mirrored = len(self.channels) - 1 - len(passed)
        return passed[mirrored] if self.shortcuts and mirrored < len(passed) - 1 else None

    def reaches(self):
        """Return how many pixels each layer sees up, left and (above) right."""
        return [side * apart for side, apart in zip(self.sides(), self.apart(), strict=True)]

    def sides(self):
        return [n // 2 for n in (self.first_kernel, *[self.kernel] * (len(self.channels) - 1))]

    def apart(self):
        return self.dilations or (1,) * len(self.channels)


class Vertical(nn.Module):
    """A layer of the vertical stack: v [R, W, F] and the `side` · `apart` rows before it -> the next v.

    Also returns the features for the horizontal stack, and the last rows of v, which are the state.
    """

    features: int
    side: int
    apart: int
    colours: int
    dropout: float

    @nn.compact
    def __call__(self, v, past, context, early):
        seen = jnp.concatenate([past, v])
        shape = (self.side + 1, 2 * self.side + 1)
        a = Windows(2 * self.features, shape, self.apart, self.colours)(between_zeros(seen, self.side * self.apart))
        a = a if early is None else a + nn.Dense(2 * self.features, use_bias=False)(early)
        return Gate(self.dropout)(a, context), a, seen[len(v) :]


class Horizontal(nn.Module):
    """A layer of the horizontal stack: h [R, S, F] and the pixels before each of its rows -> the next h and state."""

    features: int
    side: int
    apart: int
    colours: int
    dropout: float

    @nn.compact
    def __call__(self, h, past, from_above, context, early):
        seen = jnp.concatenate([past, h], axis=1)
        a = Windows(2 * self.features, (1, self.side + 1), self.apart, self.colours)(seen)
        a = a + nn.Dense(2 * self.features)(from_above)
        a = a if early is None else a + nn.Dense(2 * self.features, use_bias=False)(early)
        y = nn.Dense(self.features)(Gate(self.dropout)(a, context))
        return (h + y if h.shape == y.shape else y), seen[:, h.shape[1] :]


class Windows(nn.Module):
    """An affine map of every window of `shape` (rows, columns) inside the image, its places `apart` pixels apart.

    With `colours` it is one of `DIFFERENCES` times differences of pixels, except for the last channel.
    """

    features: int
    shape: tuple
    apart: int
    colours: int = 0
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", self.kernel_init, (*self.shape, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve_inside(x, self.of_differences(kernel), self.apart) + bias[None, None]

    def of_differences(self, kernel):
        """Return a kernel that sums to zero for every colour, where there are `colours`."""
        if not self.colours:
            return kernel
        of_pixels, of_ones = kernel[:, :, :-1], kernel[:, :, -1:]
        if of_pixels.shape[2] % self.colours:
            raise ValueError(f"colours: {self.colours} do not divide {of_pixels.shape[2]} channels into whole pixels")
        by_colour = of_pixels.reshape(*self.shape, -1, self.colours, self.features)
        by_colour = DIFFERENCES * (by_colour - by_colour.mean((0, 1, 2), keepdims=True))
        return jnp.concatenate([by_colour.reshape(of_pixels.shape), of_ones], axis=2)


def between_zeros(v, columns):
    """Return v [R, W, F] with `columns` of zeros on both sides."""
    return jnp.pad(v, ((0, 0), (columns, columns), (0, 0)))


def part_of(context, *place):
    """Return row i, pixel i, j, or the whole of an image, as an image; a vector becomes one pixel [1, 1, F].

    Slices are clamped, so that one pixel stands for all.
    """
    if context is None:
        return None
    context = context if context.ndim == 3 else context[None, None]
    for axis, n in enumerate(place):
        context = jax.lax.dynamic_slice_in_dim(context, n, 1, axis)
    return context
