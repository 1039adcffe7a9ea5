"""
Explaining a prediction
=======================

Which parts of a spectrogram determine the predicted genre? This tutorial plots saliency maps by two attribution
methods and tests their faithfulness by occlusion. It needs the extra ``explain``: ``pip install "musgenre[explain]"``.
"""

# %%
# Grad-CAM
# --------
#
# By default, ``explain`` attributes the predicted genre in the window with the highest probability for it. The demo
# piece is a waltz followed by metal.

from pathlib import Path

import matplotlib.pyplot as plt

import musgenre

classifier = musgenre.GenreClassifier.from_pretrained()
song = Path(musgenre.__file__).parent / "assets" / "demo.ogg"

explanation = classifier.explain(song)
print(f"{explanation.label}, {explanation.probability:.0%}, from {explanation.start_seconds:.0f} s")

figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
explanation.plot(ax)
plt.show()

# %%
# The spectrogram is grey, positive attribution is orange. Grad-CAM weights the feature maps of a late stage by the
# gradient of the logit and upsamples their sum to the spectrogram. Its resolution is therefore coarse: a fraction of a
# second, and an octave or two.
#
# Integrated gradients
# --------------------
#
# Integrated gradients attribute to each bin of the spectrogram, relative to a baseline of pink noise of the same level.
# Negative attributions (violet) occur as well, and all of them sum to the difference of the logits. The two genres of
# the piece, each in the window with its highest probability:

figure, axes = plt.subplots(2, 1, figsize=(9, 8), layout="constrained")
for ax, genre in zip(axes, ["classical", "metal"], strict=True):
    fine = classifier.explain(song, method="integrated-gradients", label=genre)
    fine.plot(ax)
plt.show()

# %%
# Attribution by frequency
# ------------------------
#
# Summed over time, the attributions show which frequencies contribute to a genre.

import numpy as np

figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
for genre in ["classical", "metal"]:
    fine = classifier.explain(song, method="integrated-gradients", label=genre)
    weights = fine.saliency.sum(axis=1)
    # Smooth over neighbouring bands, because single bands are noisy.
    smooth = np.convolve(weights, np.ones(5) / 5, mode="same")
    ax.semilogx(fine.bins_hz, smooth, label=genre)
ax.axhline(0, color="black", linewidth=0.8)
ax.set(xlabel="Frequency (Hz)", ylabel="Contribution to the logit", xlim=(50, 11_025))
ax.legend()
plt.show()

# %%
# Faithfulness
# ------------
#
# A saliency map can be tested by occlusion: replace the tenth of the bins with the highest attribution by pink noise,
# and measure the remaining probability of the genre, here for every window of the piece and its most probable genre.
# An ``Explainer`` reuses the prediction for several explanations of one file.

import torch

from musgenre.audio import read_window
from musgenre.models.explain import Explainer, noise_baseline

network, config = classifier.network, classifier.config
coarse, fine = (Explainer(network, config, method=method) for method in ("grad-cam", "integrated-gradients"))
prediction = classifier.predict(song)
rng = np.random.default_rng(0)


def occluded(order: np.ndarray, *, index: int, spectrogram: torch.Tensor, noise: torch.Tensor) -> float:
    """Return the probability of a genre after occluding the tenth of the bins with the highest order."""
    mask = torch.from_numpy(order >= np.quantile(order, 0.9))
    with torch.no_grad():
        return network.classify(torch.where(mask, noise, spectrogram)).softmax(dim=1)[0, index].item()


rows = []
for window, probabilities in enumerate(prediction.windows.probabilities):
    index = int(probabilities.argmax())
    options = {"prediction": prediction, "label": classifier.labels[index], "window": window}
    by_maps, by_bins = coarse.explain(song, **options), fine.explain(song, **options)
    span = {"start_seconds": by_bins.start_seconds, "seconds": by_bins.window_seconds}
    waveform = torch.from_numpy(read_window(song, sample_rate=config.audio.sample_rate, **span))
    spectrogram, noise = network.feature(waveform[None]), noise_baseline(network.feature, waveform)
    orders = rng.random(by_bins.saliency.shape), by_maps.saliency, by_bins.saliency
    rest = (occluded(order, index=index, spectrogram=spectrogram, noise=noise) for order in orders)
    rows.append([probabilities[index], *rest])

names = ("original", "random tenth", "Grad-CAM's tenth", "integrated gradients' tenth")
for name, mean in zip(names, np.mean(rows, axis=0), strict=True):
    print(f"{name:<28} {mean:.0%}")

# %%
# Occluding the bins with the highest integrated gradients removes most of the probability, occluding as many by
# Grad-CAM less than a random choice. For this network, whose output depends on statistics of several layers, Grad-CAM
# gives a first overview at best, and integrated gradients are more faithful.
#
# A map of embeddings
# -------------------
#
# ``embed`` returns the output of the backbone. On a two-dimensional map of the embeddings, segments that are similar to
# the network are close to each other. Each point is 1.5 s of the piece, coloured by its section.

from musgenre import audio, plotting

rate = config.audio.sample_rate
parts = np.array_split(audio.load(song, sample_rate=rate), 17)
labels = ["waltz"] * 4 + ["metal"] * 13
vectors = classifier.embed([(part, rate) for part in parts])

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
plotting.plot_embedding_map(vectors, labels, ax=axes[0])
plotting.plot_embedding_map(vectors, labels, method="tsne", ax=axes[1])
plt.show()
