"""Data with a known generative process: images, sentences (with a known log p(x)), vowels, counts, drawings, sprites.

`four_by_four`: 4x4 images. One number z moves a bright bar, the same in all four rows, across the image, and every
pixel has its own noise. The images lie on a curve in sixteen dimensions, plus noise.

    z ~ N(0, 1)       x = four_by_four_mean(z) + NOISE_SCALE ε,  ε ~ N(0, I)
"""

import functools
import math

import numpy as np

SEED = 0
SIZES = {"train": 1000, "valid": 500, "test": 500}
# The grey levels are five deviations of the noise away from 0 and from 1: no draw leaves [0, 1], so none is clipped,
# and the true density is the stated one.
DARK, BRIGHT, NOISE_SCALE = 0.35, 0.65, 0.07
COLUMNS = np.arange(1, 5, dtype=np.float32)


def four_by_four_position(z):
    """Return the column of the bar, counted from 1: 2.5 + 1.2 z. One z in ten is beyond the edges of the image."""
    return 2.5 + 1.2 * z


def four_by_four_mean(z):
    """Return the noiseless image [4, 4, 1] of one code (a NumPy or JAX number): a bell of width 0.8 in every row."""
    distance = (COLUMNS - four_by_four_position(z)) / 0.8
    row = DARK + (BRIGHT - DARK) * math.e ** (-0.5 * distance * distance)
    return (0.0 * COLUMNS[:, None] + row[None, :])[..., None]


def four_by_four(split):
    """Return z [N], x [N, 4, 4, 1] in [0, 1], float32, and label [N] of a split: the same draw at every call.

    The label is the column, 0..3, that is nearest to the bar.
    """
    rng = np.random.default_rng([SEED, list(SIZES).index(split)])
    z = rng.standard_normal(SIZES[split]).astype(np.float32)
    noise = rng.standard_normal((len(z), 4, 4, 1)).astype(np.float32)
    x = np.stack([four_by_four_mean(one) for one in z]) + np.float32(NOISE_SCALE) * noise
    label = np.clip(np.round(four_by_four_position(z)), 1, 4).astype(np.int32) - 1
    return z, x.astype(np.float32), label


# ------------------------------------------------------------------------------------------------------- sentences
#
# A regular grammar in which every history has one state: p(sentence) = Π p(word | state), and entropies are sums over a
# graph without cycles. The verb agrees with its subject, which may be up to three words away ("the cats near a dog
# sleep ."): the four words before a word determine its state, and two do not.

GRAMMAR_SEED = 1
GRAMMAR_SIZES = {"train": 5000, "valid": 500, "test": 1000}


def _one_of(weights, share, then):
    """Return {word: (probability, next state)} for words that share the probability `share`."""
    return {word: (share * p, then) for word, p in weights.items()}


_ONE = {"cat": 0.4, "dog": 0.3, "bird": 0.2, "king": 0.1}
_MANY = {f"{noun}s": p for noun, p in _ONE.items()}
_ADJECTIVE = {"small": 0.5, "grey": 0.3, "white": 0.2}
_NEAR = {"near": 0.6, "under": 0.4}
_ARTICLE = {"the": 0.7, "a": 0.3}
_SLEEP, _SEE = {"sleep": 0.5, "sing": 0.5}, {"see": 0.7, "hear": 0.3}


def _verbs(share, ending):
    sleep, see = ({f"{verb}{ending}": p for verb, p in verbs.items()} for verbs in (_SLEEP, _SEE))
    return _one_of(sleep, 0.4 * share, "stop") | _one_of(see, 0.6 * share, "object")


def _agreeing(number, ending):
    """Return the states between a subject, of one `number`, and its verb."""
    return {
        number: _one_of(_NEAR, 0.3, f"{number} near") | _verbs(0.7, ending),
        f"{number} near": _one_of(_ARTICLE, 1.0, f"{number} near the"),
        f"{number} near the": _one_of(_ONE, 1.0, f"{number} near it"),
        f"{number} near it": _verbs(1.0, ending),
    }


GRAMMAR = {  # state: {word: (probability, next state)}
    "start": {"a": (0.4, "a"), "the": (0.6, "the")},
    "a": _one_of(_ADJECTIVE, 0.3, "a small") | _one_of(_ONE, 0.7, "one"),
    "a small": _one_of(_ONE, 1.0, "one"),
    "the": _one_of(_ADJECTIVE, 0.3, "the small") | _one_of(_ONE, 0.4, "one") | _one_of(_MANY, 0.3, "many"),
    "the small": _one_of(_ONE, 0.6, "one") | _one_of(_MANY, 0.4, "many"),
    **_agreeing("one", "s"),
    **_agreeing("many", ""),
    "object": _one_of(_ARTICLE, 1.0, "see the"),
    "see the": _one_of(_ADJECTIVE, 0.3, "see the small") | _one_of(_ONE, 0.7, "stop"),
    "see the small": _one_of(_ONE, 1.0, "stop"),
    "stop": {".": (1.0, "end")},
}


def grammar(split):
    """Return the sentences of a split, words separated by spaces: independent draws, the same at every call."""
    rng = np.random.default_rng([GRAMMAR_SEED, list(GRAMMAR_SIZES).index(split)])
    choices = {state: (list(words), np.cumsum([p for p, _ in words.values()])[:-1]) for state, words in GRAMMAR.items()}

    def draw():
        state = "start"
        while state != "end":
            words, ends = choices[state]
            word = words[np.searchsorted(ends, rng.random(), side="right")]
            yield word
            state = GRAMMAR[state][word][1]

    return [" ".join(draw()) for _ in range(GRAMMAR_SIZES[split])]


def grammar_log_prob(sentence):
    """Return log p(sentence) with its end, in nats; -inf for other strings."""
    state, log_prob = "start", 0.0
    for word in sentence.split():
        p, state = GRAMMAR.get(state, {}).get(word, (0.0, "nowhere"))
        log_prob += math.log(p) if p else -math.inf
    return log_prob if state == "end" else -math.inf


def grammar_entropy(state="start"):
    """Return E[-log p] of the words after a state, in nats: from "start", the entropy of a sentence.

    No model has a lower mean -log p.
    """
    return sum(p * (grammar_entropy(then) - math.log(p)) for p, then in GRAMMAR.get(state, {}).values())


def grammar_length(state="start"):
    """Return the mean number of words after a state, plus one for the end."""
    return 1.0 if state == "end" else sum(p * (1.0 + grammar_length(then)) for p, then in GRAMMAR[state].values())


# ----------------------------------------------------------------------------------------------------------- vowels
#
# A voice as source and filter: pulses of one pitch pass three resonances, which distinguish the vowels.

VOWELS = ("a", "i", "u")
VOWEL_SEED = 2
VOWEL_RATE = 8000  # samples per second
VOWEL_SIZES = {"train": 300, "valid": 60, "test": 60}
_FORMANTS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "u": (300, 870, 2240)}  # Hz, doi:10.1121/1.1906875 (men)
_BANDWIDTHS = (80, 100, 140)  # Hz


def vowels(split, length):
    """Return pcm [N, length], int16, and label [N] of a split: the same draw at every call.

    Every vowel has its own pitch between 90 and 200 Hz, which glides by up to a tenth, and a little noise.
    """
    from scipy.signal import lfilter

    rng = np.random.default_rng([VOWEL_SEED, list(VOWEL_SIZES).index(split)])
    label = np.arange(VOWEL_SIZES[split]) % len(VOWELS)
    start, glide = rng.uniform(90, 200, len(label)), rng.uniform(-0.1, 0.1, len(label))
    pitch = start[:, None] * (1 + glide[:, None] * np.linspace(0, 1, length)[None])
    phase = np.cumsum(pitch / VOWEL_RATE, axis=1) + rng.uniform(size=(len(label), 1))
    x = np.diff(np.floor(phase), axis=1, prepend=np.floor(phase[:, :1])) + 0.01 * rng.normal(size=phase.shape)
    for n, name in enumerate(VOWELS):
        for formant, bandwidth in zip(_FORMANTS[name], _BANDWIDTHS, strict=True):
            radius, angle = math.exp(-math.pi * bandwidth / VOWEL_RATE), 2 * math.pi * formant / VOWEL_RATE
            resonance = [1.0, -2.0 * radius * math.cos(angle), radius**2]
            x[label == n] = lfilter([sum(resonance)], resonance, x[label == n])
    loudest = np.abs(x).max(axis=1, keepdims=True)
    return np.round(0.5 * 2**15 * x / loudest).astype(np.int16), label


# ----------------------------------------------------------------------------------------------------------- counts
#
# Counts of genes in cells, as single-cell sequencing gives them: four factors, a depth of each cell, and a negative
# binomial whose dispersion is the gene's.
#
#     z ~ N(0, I)    depth l ~ LogNormal(log 2000, 0.4)    x_g ~ NB(mean l softmax(W z + b)_g, inverse dispersion θ_g)

COUNTS_SEED = 3
COUNTS_SIZES = {"train": 1400, "valid": 300, "test": 300}
COUNTS_GENES, COUNTS_FACTORS = 200, 4


def counts_process():
    """Return W [G, D], b [G] and log θ [G] of the process."""
    rng = np.random.default_rng([COUNTS_SEED, len(COUNTS_SIZES)])
    weight = rng.normal(scale=0.6, size=(COUNTS_GENES, COUNTS_FACTORS))
    return weight, rng.normal(scale=1.2, size=COUNTS_GENES), rng.normal(loc=0.7, scale=0.7, size=COUNTS_GENES)


def counts(split):
    """Return z [N, D], log l [N] and x [N, G], uint16, of a split: the same draw at every call."""
    rng = np.random.default_rng([COUNTS_SEED, list(COUNTS_SIZES).index(split)])
    weight, bias, log_theta = counts_process()
    z = rng.standard_normal((COUNTS_SIZES[split], COUNTS_FACTORS))
    log_depth = rng.normal(math.log(2000.0), 0.4, size=len(z))
    logits = z @ weight.T + bias
    share = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    theta, mean = np.exp(log_theta), np.exp(log_depth)[:, None] * share
    return z, log_depth, rng.poisson(rng.gamma(theta, mean / theta)).astype(np.uint16)


# --------------------------------------------------------------------------------------------------------- dSprites
#
# White shapes on black whose every factor is known, after github.com/google-deepmind/dsprites-dataset, whose images are
# others. A pixel is white if its centre is inside the shape. The centre of the shape is that of a pixel.

DSPRITES_SEED = 4
DSPRITES_SIZES = {"train": 40_000, "valid": 2_000, "test": 8_000}
DSPRITES_FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}  # names, and how many values
DSPRITES_SHAPES = ("square", "ellipse", "heart")
DSPRITES_SIDE, _REACH = 64, 16  # pixels of an image, and from the centre of a sprite to its edge


def _inside(shape, u, v):
    """Return True for points of a shape of scale 1, all within distance 16; v points up."""
    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= 11.0
    if shape == "ellipse":
        return (u / 15.5) ** 2 + (v / 8.0) ** 2 <= 1.0
    a, b = u / 11.5, (v + 1.0) / 11.5
    return (a * a + b * b - 1.0) ** 3 <= a * a * b**3


@functools.cache
def dsprites_masks():
    """Return the sprites [3, 6, 40, 33, 33], bits, of each shape, scale 0.5, 0.6 .. 1 and orientation 2π k / 40."""
    down, right = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1]
    scale = np.linspace(0.5, 1.0, DSPRITES_FACTORS["scale"])[:, None, None, None]
    angle = 2.0 * np.pi * np.arange(DSPRITES_FACTORS["orientation"])[:, None, None] / DSPRITES_FACTORS["orientation"]
    u, v = right * np.cos(angle) - down * np.sin(angle), -right * np.sin(angle) - down * np.cos(angle)
    return np.stack([_inside(shape, u / scale, v / scale) for shape in DSPRITES_SHAPES]).astype(np.uint8)


def dsprites_factors(index):
    """Return the factors [N, 5] of the images at `index` [N], 0 .. 737,279, in the order of `DSPRITES_FACTORS`.

    The last factor changes fastest. A square looks the same after a quarter turn and an ellipse after half a turn, so
    their orientations cannot all be told apart.
    """
    return np.stack(np.unravel_index(index, tuple(DSPRITES_FACTORS.values())), axis=-1)


def dsprites_images(factors, side=DSPRITES_SIDE):
    """Return the images [N, S, S, 1], uint8 0 and 1, of factors [N, 5]; x moves the sprite right, y down.

    S = `side` is 64, or a part of it such as 32: the image then has every second pixel of every second row.
    """
    masks, images = dsprites_masks(), np.zeros((len(factors), DSPRITES_SIDE, DSPRITES_SIDE, 1), np.uint8)
    size = masks.shape[-1]
    for image, (*sprite, x, y) in zip(images[..., 0], np.asarray(factors), strict=True):
        image[y : y + size, x : x + size] = masks[*sprite]
    step = DSPRITES_SIDE // side
    return images[:, ::step, ::step]


def dsprites(split, side=DSPRITES_SIDE):
    """Return x [N, `side`, `side`, 1] and the factors [N, 5] of a split: different images, the same at every call."""
    order = np.random.default_rng(DSPRITES_SEED).permutation(math.prod(DSPRITES_FACTORS.values()))
    names, ends = list(DSPRITES_SIZES), np.cumsum(list(DSPRITES_SIZES.values()))
    place = names.index(split)
    factors = dsprites_factors(order[ends[place] - DSPRITES_SIZES[split] : ends[place]])
    return dsprites_images(factors, side), factors


# --------------------------------------------------------------------------------------------------------- polygons

POLYGON_SEED = 4
POLYGON_SIZES = {"train": 1000, "valid": 200, "test": 200}
LEAST_SIDES, MOST_SIDES = 3, 6


def polygons(split):
    """Return points [P, 3], int16, lengths [N] and label [N] of a split of pen drawings (`drawings`).

    A drawing is a closed polygon of 3 to 6 sides, its class, and in half of them a second stroke from the centre to the
    first corner. Size, angle and the noise of every corner are random, the same at every call.
    """
    rng = np.random.default_rng([POLYGON_SEED, list(POLYGON_SIZES).index(split)])
    label = np.arange(POLYGON_SIZES[split]) % (MOST_SIDES - LEAST_SIDES + 1)
    points, lengths = [], []
    for sides in label + LEAST_SIDES:
        angle = rng.uniform(0, 2 * math.pi) + 2 * math.pi * np.arange(sides + 1) / sides
        corners = rng.uniform(8, 20) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        strokes = [corners] if rng.random() < 0.5 else [corners, np.stack([np.zeros(2), corners[0]])]
        place = np.round(np.concatenate(strokes) + rng.normal(scale=0.5, size=(sum(map(len, strokes)), 2)))
        lifted = np.isin(np.arange(1, len(place) + 1), np.cumsum([len(stroke) for stroke in strokes]))
        points.append(np.column_stack([np.diff(place, axis=0, prepend=place[:1]), lifted]))
        lengths.append(len(place))
    return np.concatenate(points).astype(np.int16), np.array(lengths), label
