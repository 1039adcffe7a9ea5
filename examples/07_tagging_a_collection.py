"""
Tagging a collection
====================

Predict the genres of all files in a directory, with error handling and resumption, and plot a map of the collection.
"""

# %%
# Synthetic collection
# --------------------
#
# ``make_genres.py``, in the same directory, synthesises the files. One invalid file is added.

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
# Streaming predictions
# ---------------------
#
# ``predict_iter`` yields each prediction as soon as it is available; memory use does not depend on the number of files.
# With ``on_error="return"``, errors are yielded like predictions, and the other files are still processed.

classifier = musgenre.GenreClassifier.from_pretrained()
tagged, failed = {}, {}
for path, found in zip(songs, classifier.predict_iter(songs, on_error="return"), strict=True):
    (failed if isinstance(found, musgenre.MusgenreError) else tagged)[path] = found

for path, error in failed.items():
    print(f"{path.name}: {type(error).__name__}")
counts = collections.Counter(prediction.label for prediction in tagged.values())
print("predicted:", ", ".join(f"{label} {count}" for label, count in counts.most_common()))

# %%
# The files are synthetic drones and clicks; the model has ten genres of real music and no class "none of these".
# Store the probabilities with the labels, so that uncertain predictions can be filtered:

surest = sorted(tagged.items(), key=lambda item: item[1].probability, reverse=True)
for path, prediction in (*surest[:2], *surest[-2:]):
    print(f"{path.parent.name}/{path.name}: {prediction.label} {prediction.probability:.0%}")

# %%
# On the command line, resumable
# ------------------------------
#
# The command writes one line of JSON per file. After an interruption, the same command with ``--resume`` processes the
# remaining files; here none remain, and the output does not change.
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
    print(f"exit code {ended.returncode}, {len(lines)} lines")  # 2: some files could not be read

first = json.loads(lines[0])
print(sorted(first))

# %%
# Embedding map
# -------------
#
# ``embed`` returns the output of the backbone, averaged over the windows of a file. Files with similar embeddings are
# close to each other on the map; the colours are the subdirectories.

from musgenre.plotting import plot_embedding_map

paths = list(tagged)
plot_embedding_map(classifier.embed(paths), [path.parent.name for path in paths])
folder.cleanup()

# %%
# ``musgenre tag`` does the same on a Ray cluster, also with object stores: see :doc:`/how-to/scale`.
