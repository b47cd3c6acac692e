"""The values that data and random variables can take: the reals, bits, levels, tokens, counts, unit vectors."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Real:
    """All real numbers."""

    num_levels = None

    def __str__(self):
        return "real"


@dataclasses.dataclass(frozen=True)
class Unit:
    """Real numbers in [0, 1]: dequantised levels."""

    num_levels = None

    def __str__(self):
        return "real numbers in [0, 1]"


@dataclasses.dataclass(frozen=True)
class Sphere:
    """Vectors of length 1."""

    num_levels = None

    def __str__(self):
        return "sphere"


@dataclasses.dataclass(frozen=True)
class Counts:
    """Integers 0, 1, 2, ... without an upper limit."""

    num_levels = None

    def __str__(self):
        return "counts"


@dataclasses.dataclass(frozen=True)
class Binary:
    """0 and 1."""

    num_levels = 2

    def __str__(self):
        return "binary"


@dataclasses.dataclass(frozen=True)
class Levels:
    """Integers 0, ..., V - 1 in an order, such as grey levels."""

    num_levels: int

    def __str__(self):
        return f"integers below {self.num_levels}"


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Integers 0, ..., V - 1 without an order, such as words."""

    num_levels: int

    def __str__(self):
        return f"tokens below {self.num_levels}"


Support = Real | Unit | Sphere | Counts | Binary | Levels | Tokens


def is_discrete(support) -> bool:
    """Return True if the values are countable: then log p is the logarithm of a mass, and draws carry no gradient."""
    return isinstance(support, Binary | Levels | Tokens | Counts)


def standardize(support, x):
    """Return `x` on the scale that networks see: levels 0, ..., V - 1 become [-1, 1], all else stays as it is."""
    return 2.0 * x / (support.num_levels - 1) - 1.0 if isinstance(support, Levels) else x
