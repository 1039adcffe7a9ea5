"""
A first prediction
==================

Load the default model, predict the genre of a short piece, and read the result: the genre of the whole piece, the
genre of each window, and the errors for files that cannot be read.
"""

# %%
# Load the model
# --------------
#
# The default model is part of the package, so nothing is downloaded. It has ten genres.

import musgenre

classifier = musgenre.GenreClassifier.from_pretrained()
print(", ".join(classifier.labels))

# %%
# Predict a file
# --------------
#
# The input is a path, a binary file object, or a pair of samples and sample rate. The demo piece comes with the
# package. It is synthetic and was written for this demo (``scripts/render_demo.py``): six seconds of a waltz, then
# metal.

from pathlib import Path

song = Path(musgenre.__file__).parent / "assets" / "demo.ogg"
prediction = classifier.predict(song)

print(f"{prediction.duration_seconds:.1f} s of audio")
for label, probability in prediction.top(3):
    print(f"{label:<10} {probability:.0%}")

# %%
# The probabilities of all genres sum to one. A low maximum means that the piece changes its genre or that the model is
# uncertain; there is no class "none of these".

print(prediction.label, round(sum(prediction.probabilities.values()), 6))

# %%
# Genre over time
# ---------------
#
# The model classifies windows of 7.55 seconds. The prediction of a file is the mean over its windows, which
# ``prediction.windows`` holds, one row per window. The last window is aligned with the end of the file, so it may
# overlap the previous one.

import numpy as np

windows = prediction.windows
for start, row in zip(windows.start_seconds, windows.probabilities, strict=True):
    print(f"{start:5.1f} s  {classifier.labels[np.argmax(row)]}")

# %%
# Plot it below the spectrogram. ``musgenre demo`` writes the same figure to a file.

import matplotlib.pyplot as plt

from musgenre import audio, plotting

rate = classifier.config.audio.sample_rate
waveform = audio.load(song, sample_rate=rate)

figure = plt.figure(figsize=(12, 7), layout="constrained")
upper, lower = figure.subplots(2, 1, sharex=True)
plotting.plot_spectrogram(waveform, sample_rate=rate, ax=upper)
plotting.plot_timeline(prediction, ax=lower)
upper.set_xlabel("")
plt.show()

# %%
# Samples instead of a file
# -------------------------
#
# Samples may have any rate and any number of channels: channels are averaged, and the signal is resampled. The last
# ten seconds of the piece, as mono floats and as stereo 16-bit integers:

ending = waveform[-10 * rate :]
print(classifier.predict((ending, rate)).label)

stereo = np.stack([ending, ending])
print(classifier.predict(((stereo * 32_767).astype(np.int16), rate)).label)

# %%
# Several files
# -------------
#
# A list returns a list. ``predict_proba`` returns an array with one row per file and one column per genre. ``embed``
# returns the output of the backbone, averaged over the windows: a vector per file for similarity search or a map.

parts = [(part, rate) for part in np.array_split(waveform, 4)]
print([result.label for result in classifier.predict(parts)])

table = classifier.predict_proba(parts)
print(table.shape, table.sum(axis=1).round(6))

vectors = classifier.embed(parts)
print(vectors.shape)

# %%
# Errors
# ------
#
# Files that cannot be read raise a ``MusgenreError`` that names the cause. With ``on_error="return"`` the error is
# returned in the list, and the other files are still predicted.

results = classifier.predict([song, "no-such-file.mp3"], on_error="return")
for result in results:
    if isinstance(result, musgenre.MusgenreError):
        print(f"{type(result).__name__}: {result}")
    else:
        print(result.label)
