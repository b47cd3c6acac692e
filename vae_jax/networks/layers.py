"""A decoder as a list of layers with their arrays, for a program that computes it without JAX (`runs.decoder`).

A layer is a dict: `op` is "dense" (with `kernel` and `bias`), "up" (a transposed convolution, also with the `height`,
`width` and `stride` of its input), "act" or "gate" (with the `name` of an activation), or "join" (append the context).
"""


def mlp(options, tree, *, context: bool) -> tuple[list, list]:
    """Return the layers of `networks.mlp`, and those of the branch of its own that processes the context.

    `options` are those of the network, `tree` are its parameters. The second list is empty without such a branch.
    """
    dense = lambda n: {"op": "dense", **tree[f"Dense_{n}"]}  # noqa: E731
    act = {"op": "gate" if options.get("gated") else "act", "name": options.get("activation", "relu")}
    stack = lambda first, last: [layer for n in range(first, last) for layer in (dense(n), act)]  # noqa: E731
    count, first = sum(name.startswith("Dense_") for name in tree), len(options.get("branches", ()))
    end = [{"op": "dense", **tree["DenseHead_0"]["Dense_0"]}]
    if not context:
        return [*stack(0, count), *end], []
    return [*stack(0, first), {"op": "join"}, *stack(2 * first, count), *end], stack(first, 2 * first)


def conv_decoder(options, tree, shape, *, context: bool) -> list:
    """Return the layers of `networks.conv_decoder` for images of `shape` [H, W, C]."""
    act = {"op": "act", "name": options.get("activation", "relu")}
    dense, up = (sum(name.startswith(kind) for name in tree) for kind in ("Dense_", "ConvTranspose_"))
    layers = [{"op": "join"}] if context else []
    for n in range(dense):
        layers += [{"op": "dense", **tree[f"Dense_{n}"]}, act]
    for n in range(up):
        height, width = (side // 2 ** (up - n) for side in shape[:2])
        layers += [{"op": "up", "height": height, "width": width, "stride": 2, **tree[f"ConvTranspose_{n}"]}, act]
    return layers[:-1]
