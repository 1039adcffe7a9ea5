"""
A first prediction
==================

Load the model that comes with the package, let it hear a short piece, and look at what it says: the genre of the
whole piece, how the genre moves through it, and what comes back when a file cannot be read.
"""

# %%
# Load the model
# --------------
#
# The default model lies inside the package, so nothing is downloaded. It knows ten genres.

import musgenre

classifier = musgenre.GenreClassifier.from_pretrained()
print(", ".join(classifier.labels))

# %%
# Predict a song
# --------------
#
# A song is a path, a binary file object, or a pair of samples and their rate. The piece below comes with the package
# too: its notes and its sounds are computed by a script of the project, as a waltz, a disco, a reggae and a metal
# section, about seven seconds each.

from pathlib import Path

song = Path(musgenre.__file__).parent / "assets" / "demo.ogg"
prediction = classifier.predict(song)

print(f"{prediction.duration_seconds:.1f} s of audio")
for label, probability in prediction.top(3):
    print(f"{label:<10} {probability:.0%}")

# %%
# The probabilities of all genres add up to one. A low highest value means that the model hears several genres, or
# that it does not know what it hears: it has no answer "none of these".

print(prediction.label, round(sum(prediction.probabilities.values()), 6))

# %%
# How the genre moves through a song
# ----------------------------------
#
# The model hears one window of three seconds at a time. What it says of the song is the mean over its windows;
# ``prediction.windows`` keeps them, one row a window. The last window ends with the song, so it may overlap the one
# before.

import numpy as np

windows = prediction.windows
for start, row in zip(windows.start_seconds, windows.probabilities, strict=True):
    print(f"{start:5.1f} s  {classifier.labels[np.argmax(row)]}")

# %%
# Drawn, with the spectrogram above it. ``musgenre demo`` writes the same picture to a file.

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
# Samples in place of a file
# --------------------------
#
# Any rate and any number of channels will do: channels are averaged and the rate is converted. Here is a third of the
# song, and the same as two channels of whole numbers, as a sound card gives them.

third = waveform[: len(waveform) // 3]
print(classifier.predict((third, rate)).label)

stereo = np.stack([third, third])
print(classifier.predict(((stereo * 32_767).astype(np.int16), rate)).label)

# %%
# Several songs
# -------------
#
# A list gives a list. ``predict_proba`` gives a table with a row a song and a column a genre, and ``embed`` gives
# each song's vector from the last layer before the head, which says how a song sounds and can be compared with
# others'.

parts = [(part, rate) for part in np.array_split(waveform, 4)]
print([result.label for result in classifier.predict(parts)])

table = classifier.predict_proba(parts)
print(table.shape, table.sum(axis=1).round(6))

vectors = classifier.embed(parts)
print(vectors.shape)

# %%
# What cannot be read
# -------------------
#
# Whatever is wrong with a song is a ``MusgenreError`` that says so. With ``on_error="return"`` the error takes the
# song's place in the list, and the other songs are predicted all the same.

results = classifier.predict([song, "no-such-file.mp3"], on_error="return")
for result in results:
    if isinstance(result, musgenre.MusgenreError):
        print(f"{type(result).__name__}: {result}")
    else:
        print(result.label)
