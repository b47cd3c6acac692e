"""Figures of sound: waveforms and spectrograms."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.mlab import specgram

from vae_jax.plotting import PALETTE, shaped, styled

DYNAMIC_RANGE = 60  # dB below the maximum that are shown
WINDOW = 0.016  # seconds: a few periods of a voice


@styled
def spectrograms(sounds, *, sample_rate, ncols=4):
    """Show each sound as a waveform, with its spectrogram below, in dB relative to the loudest moment of all sounds.

    `sounds` maps a title to samples [T] in [-1, 1]; `sample_rate` is in Hz; `ncols` sounds are in a row.
    """
    arrays = shaped(**{name: (samples, "T") for name, samples in sounds.items()})
    ncols = min(ncols, len(arrays))
    nrows = -(-len(arrays) // ncols)
    figure = Figure(figsize=(6.75, 2.1 * nrows), layout="constrained")
    panels = figure.subplots(2 * nrows, ncols, squeeze=False, height_ratios=[1, 2] * nrows)
    shortest = min(map(len, arrays))
    size = max(16, min(2 ** round(np.log2(WINDOW * sample_rate)), shortest // 2))
    spectra = [specgram(x, NFFT=size, Fs=sample_rate, noverlap=3 * size // 4) for x in arrays]
    loudest = max(10 * np.log10(power.max() + 1e-20) for power, _, _ in spectra)
    peak = max(np.abs(x).max() for x in arrays)
    for panel in panels.ravel():
        panel.set_axis_off()
    for n, (title, x, (power, frequencies, _)) in enumerate(zip(sounds, arrays, spectra, strict=True)):
        row, column = divmod(n, ncols)
        wave, spectrum = panels[2 * row, column], panels[2 * row + 1, column]
        seconds = len(x) / sample_rate
        wave.plot(np.arange(len(x)) / sample_rate, x, color=PALETTE[0], linewidth=0.4)
        wave.set(title=title, xlim=(0, seconds), ylim=(-1.05 * peak, 1.05 * peak))
        spectrum.set_axis_on()
        spectrum.imshow(
            10 * np.log10(power + 1e-20),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=loudest - DYNAMIC_RANGE,
            vmax=loudest,
            extent=(0, seconds, 0, frequencies[-1] / 1000),
        )
        last = n + ncols >= len(arrays)
        spectrum.set(xlabel="s" if last else None, ylabel="kHz" if column == 0 else None)
    return figure
