"""
Explaining a prediction
=======================

Which parts of a song spoke for its genre? This tutorial draws them over the spectrogram, in two ways, and then checks
whether what is drawn is true of the network. It needs the extra ``explain``: ``pip install "musgenre[explain]"``.
"""

# %%
# Explain a song
# --------------
#
# ``explain`` takes the song's genre and the window that is surest of it. The piece that comes with the package passes
# through a waltz, a disco, a reggae and a metal section.

from pathlib import Path

import matplotlib.pyplot as plt

import musgenre

classifier = musgenre.GenreClassifier.from_pretrained()
song = Path(musgenre.__file__).parent / "assets" / "demo.ogg"

explanation = classifier.explain(song)
print(f"{explanation.label}, {explanation.probability:.0%}, from {explanation.start_seconds:.0f} s on")

figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
explanation.plot(ax)
plt.show()

# %%
# The spectrogram is grey, and what spoke for the genre is orange. This is Grad-CAM: it takes the maps that a late stage
# of the network has made of the picture, weighs each by how much the genre depends on it, and stretches the sum over
# the picture. So it is coarse, a fraction of a second and an octave or two.
#
# Cell by cell
# ------------
#
# Integrated gradients weigh each cell of the picture. They compare it with pink noise that is as loud, so that violet
# cells, which speak against the genre, are there too; all together they add up to what the network's answer gained.
# Here are three genres, each in the window that is surest of it.

figure, axes = plt.subplots(3, 1, figsize=(9, 11), layout="constrained")
for ax, genre in zip(axes, ["classical", "disco", "metal"], strict=True):
    fine = classifier.explain(song, method="integrated-gradients", label=genre)
    fine.plot(ax)
plt.show()

# %%
# Low or high
# -----------
#
# Summed over time, the weights say at which frequencies the network listened.

import numpy as np

figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
for genre in ["classical", "disco", "reggae", "metal"]:
    fine = classifier.explain(song, method="integrated-gradients", label=genre)
    weights = fine.saliency.sum(axis=1)
    # Over neighbouring bands, because single ones are jagged.
    smooth = np.convolve(weights, np.ones(5) / 5, mode="same")
    ax.semilogx(fine.bins_hz, smooth, label=genre)
ax.axhline(0, color="black", linewidth=0.8)
ax.set(xlabel="Frequency (Hz)", ylabel="Adds to the logit", xlim=(50, 11_025))
ax.legend()
plt.show()

# %%
# Is it true?
# -----------
#
# A saliency map is a claim about the network, and can be put to the test: take the cells that it names out of the
# picture, and see what is left of the genre. Cells that are taken out are replaced by what pink noise has there. Each
# window of the piece is asked for its own most probable genre; an ``Explainer`` spares hearing the song each time.

import torch

from musgenre.audio import read_window
from musgenre.models.explain import Explainer, noise_picture

network, config = classifier.network, classifier.config
coarse, fine = (Explainer(network, config, method=method) for method in ("grad-cam", "integrated-gradients"))
prediction = classifier.predict(song)
rng = np.random.default_rng(0)


def left(order: np.ndarray, *, place: int, picture: torch.Tensor, noise: torch.Tensor) -> float:
    """The probability of a genre without the tenth of the cells that come first."""
    taken = torch.from_numpy(order >= np.quantile(order, 0.9))
    with torch.no_grad():
        return network.classify(torch.where(taken, noise, picture)).softmax(dim=1)[0, place].item()


rows = []
for window, shares in enumerate(prediction.windows.probabilities):
    place = int(shares.argmax())
    options = {"prediction": prediction, "label": classifier.labels[place], "window": window}
    by_maps, by_cells = coarse.explain(song, **options), fine.explain(song, **options)
    span = {"start_seconds": by_cells.start_seconds, "seconds": by_cells.window_seconds}
    waveform = torch.from_numpy(read_window(song, sample_rate=config.audio.sample_rate, **span))
    picture, noise = network.feature(waveform[None]), noise_picture(network.feature, waveform)
    orders = rng.random(by_cells.saliency.shape), by_maps.saliency, by_cells.saliency
    rows.append([shares[place], *(left(order, place=place, picture=picture, noise=noise) for order in orders)])

names = ("the whole picture", "less a tenth by chance", "less a tenth by Grad-CAM", "less a tenth by gradients")
for name, mean in zip(names, np.mean(rows, axis=0), strict=True):
    print(f"{name:<26} {mean:.0%}")

# %%
# Without the cells that integrated gradients name, little is left of the genre: they are what the answer hangs on.
# Those that Grad-CAM names matter less: its regions are wide, and much in them could as well be missing.
# So take its picture for a first look, and integrated gradients for an answer.

# %%
# A map of sounds
# ---------------
#
# ``embed`` gives the vector that the network makes of a song before it names a genre. Drawn as a map, what sounds alike
# to the network lies together. Each point is a second or so of the piece, in the colour of its section.

from musgenre import audio, plotting

rate = config.audio.sample_rate
whole = audio.load(song, sample_rate=rate)
sections = ["waltz", "disco", "reggae", "metal"]
parts = np.array_split(whole, 20)
labels = [sections[min(3, 4 * number // len(parts))] for number in range(len(parts))]
vectors = classifier.embed([(part, rate) for part in parts])

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
plotting.plot_embedding_map(vectors, labels, ax=axes[0])
plotting.plot_embedding_map(vectors, labels, method="tsne", ax=axes[1])
plt.show()
