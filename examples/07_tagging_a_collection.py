"""
Tagging a collection
====================

A folder of songs holds files that are damaged or that are no music, and it is longer than one sitting. This tutorial
tags a folder so that nothing is done twice and nothing is lost, looks at what came out, and draws the collection as a
map.
"""

# %%
# A folder, with a file that is no music
# --------------------------------------
#
# ``make_genres.py``, beside this script, computes the songs. One more file only says that it is one.

import collections
import json
import tempfile
from pathlib import Path

from make_genres import make_genres

import musgenre

folder = tempfile.TemporaryDirectory()
music = make_genres(Path(folder.name) / "music", seconds=4)
(music / "drones" / "broken.wav").write_text("This is no music.")
songs = sorted(path for path in music.rglob("*") if path.suffix == ".wav")
print(len(songs), "files")

# %%
# One after the other
# -------------------
#
# ``predict_iter`` yields each song as soon as it is done, in the memory of a few songs however many there are. With
# ``on_error="return"`` an error stands in its song's place, and the rest goes on.

classifier = musgenre.GenreClassifier.from_pretrained()
tagged, failed = {}, {}
for path, found in zip(songs, classifier.predict_iter(songs, on_error="return"), strict=True):
    (failed if isinstance(found, musgenre.MusgenreError) else tagged)[path] = found

for path, error in failed.items():
    print(f"{path.name}: {type(error).__name__}")
counts = collections.Counter(prediction.label for prediction in tagged.values())
print("the default model says:", ", ".join(f"{label} {count}" for label, count in counts.most_common()))

# %%
# These songs are drones and clicks, and the model knows ten genres of real music and no "none of these". What it is
# unsure of it says with a low probability, and a collection's tags are best kept with theirs:

surest = sorted(tagged.items(), key=lambda item: item[1].probability, reverse=True)
for path, prediction in (*surest[:2], *surest[-2:]):
    print(f"{path.parent.name}/{path.name}: {prediction.label} {prediction.probability:.0%}")

# %%
# From the shell, to be gone on with
# ----------------------------------
#
# The command writes a line of JSON a song as it comes. After Ctrl-C or a loss of power, the same command with
# ``--resume`` does what is left; here nothing is, and the file stays as it is.
#
# .. code-block:: console
#
#    $ musgenre predict music --output genres.jsonl
#    $ musgenre predict music --output genres.jsonl --resume

import subprocess
import sys

output = Path(folder.name) / "genres.jsonl"
musgenre_command = str(Path(sys.executable).with_name("musgenre"))
command = [musgenre_command, "predict", str(music), "--output", str(output)]
for more in ([], ["--resume"]):
    ended = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    lines = output.read_text(encoding="utf-8").splitlines()
    print(f"exit code {ended.returncode}, {len(lines)} lines")  # 2: there are songs that could not be used

first = json.loads(lines[0])
print(sorted(first))

# %%
# The collection as a map
# -----------------------
#
# ``embed`` gives the vector that the network makes of a song before it names a genre. What sounds alike to the network
# lies together, whatever it calls it; the colours are the folders.

from musgenre.plotting import plot_embedding_map

paths = list(tagged)
plot_embedding_map(classifier.embed(paths), [path.parent.name for path in paths])
folder.cleanup()

# %%
# For more songs than one machine should hear, ``musgenre tag`` does the same on a Ray cluster, from and to object
# stores: see :doc:`/how-to/scale`.
