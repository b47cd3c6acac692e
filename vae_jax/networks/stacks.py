"""Equal blocks in a row, as one loop."""

import flax.linen as nn

UNROLLED = 2  # so few blocks are written out, since a loop then costs more than it saves


def stacked(block, number, *, in_axes, reverse=False):
    """Return the class of `number` modules like `block` in a row: compile time does not grow with their number.

    `block` maps (carry, *inputs) to (carry, outputs). `in_axes` are those of `flax.linen.scan`. With `reverse` the
    last block comes first.
    """
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=in_axes,
        length=number,
        reverse=reverse,
        unroll=number if number <= UNROLLED else 1,
    )
