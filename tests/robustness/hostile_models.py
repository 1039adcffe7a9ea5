"""Loads malicious models and counts the outcomes.

It is a separate program, so that a crash, a hang or excessive memory does not affect other tests::

    python tests/robustness/hostile_models.py              # 2,000 mutations of config.json and model.safetensors
    python tests/robustness/hostile_models.py --count 200

prints one JSON object: the number of each outcome, the slowest model, the memory growth, and every model that neither
raised a MusgenreError nor gave a finite prediction. An audit hook detects processes, connections, unpickling and files
opened outside of the model's directory. The exit code is 1 if there is any, or if memory grew by more than 768 MiB.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import faulthandler
import importlib
import json
import pickle
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_SECONDS, LIMIT_BYTES = 10.0, 3 * 2**28  # of CPU time, which other programs do not affect
LIMIT_WAITING = 60.0  # of wall-clock time
SECRET = "secret-beside-the-model"
NUMBERS: list[Any] = [0, -1, 1, 2, 3, 7, 64, 4096, 10**6, 10**9, 2**31, 2**63, 10**18, 10**400, -(10**400)]
NUMBERS += [0.5, 1e-300, 1e-5, 1e5, 1e18, 1e308, -1e308, float("nan"), float("inf"), -float("inf")]
WORDS: list[Any] = [
    "",
    "os:system",
    "builtins:eval",
    f"../{SECRET}",
    "/etc/passwd",
    "__import__('os')",
    "é" * 50,
    "\0",
    "x" * 9999,
]
OTHERS: list[Any] = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"": {}},
    [1] * 5000,
    {"name": "logmel"},
    ["a", "a"],
    ["a", "b", "c"],
]
VALUES = NUMBERS + WORDS + OTHERS
OPTIONS = {"weights": [f"../{SECRET}", "/etc/passwd", 3, ["imagenet"], {}], "in_channels": [10**9, 0, "1"]}
OPTIONS |= {"width": NUMBERS, "dense_units": NUMBERS, "stem_stride": [True, 2, "2"], "pooling": ["mean", 1, []]}
OPTIONS |= {"n_fft": NUMBERS, "hop_length": NUMBERS, "n_mels": NUMBERS, "n_mfcc": NUMBERS, "size": NUMBERS}
OPTIONS |= {"f_min_hz": NUMBERS, "f_max_hz": NUMBERS, "sample_rate": NUMBERS, "mean": [[0] * 9, [], 1]}
OPTIONS |= {"std": [[1] * 9, [], 1]}
GIANTS = ["torchvision/vit_h_14", "torchvision/regnet_y_128gf", "timm/vit_giant_patch14_dinov2"]

Json = dict[str, Any]


def leaves(node: Any) -> list[tuple[Any, Any]]:
    """Returns each value in nested JSON as its container and key."""
    keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [pair for key in keys for pair in ((node, key), *leaves(node[key]))]


def change_values(config: Json, generator: random.Random) -> None:
    for _ in range(generator.randint(1, 2)):
        node, key = generator.choice(leaves(config))
        node[key] = copy.deepcopy(generator.choice(VALUES))


def change_option(config: Json, generator: random.Random) -> None:
    option = generator.choice(sorted(OPTIONS))
    config[generator.choice(["feature", "backbone"])]["options"][option] = generator.choice(OPTIONS[option])


def change_component(config: Json, generator: random.Random) -> None:
    from musgenre import BACKBONES, FEATURES

    if generator.random() < 0.5:
        config["feature"] = {"name": generator.choice(FEATURES.names()), "options": {}}
        change_option(config, generator)
    else:
        names = [name for name in BACKBONES.names() if not name.endswith("/")]
        config["backbone"] = {"name": generator.choice(names + GIANTS), "options": {}}
        config["feature"] = {"name": generator.choice(["logmel", "logmel-image"]), "options": {}}


def change_sizes(config: Json, generator: random.Random) -> None:
    config["hidden"] = [generator.choice([1, 10**5, 10**9, 10**15]) for _ in range(generator.randint(1, 3))]
    config["audio"][generator.choice(sorted(config["audio"]))] = generator.choice(NUMBERS)


def delete_or_add(config: Json, generator: random.Random) -> None:
    node, key = generator.choice(leaves(config))
    if generator.random() < 0.5:
        del node[key]
    elif isinstance(node, dict):
        node[generator.choice(WORDS)] = generator.choice(VALUES)


CONFIG_CHANGES = (change_values, change_option, change_component, change_sizes, delete_or_add)


def changed_config(data: bytes, generator: random.Random) -> bytes:
    if generator.random() < 0.2:
        return changed_bytes(data, generator)
    config = json.loads(data)
    generator.choice(CONFIG_CHANGES)(config, generator)
    return json.dumps(config).encode()


def changed_bytes(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    kind = generator.randrange(4)
    if kind == 0:
        return data[: generator.randrange(len(data))]
    if kind == 1:
        position = generator.randrange(len(data))
        return (
            data[:position] + generator.choice([b"[" * 100_000, b"\0", b"\xff", b"9" * 5000, b"{}"]) + data[position:]
        )
    for _ in range(generator.choice([1, 8, 64])):
        position = generator.randrange(min(len(data), 4000) if generator.random() < 0.7 else len(data))
        changed[position] ^= 1 << generator.randrange(8)
    return bytes(changed)


def changed_weights(data: bytes, generator: random.Random) -> bytes:
    if generator.random() < 0.4:
        return changed_bytes(data, generator)
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    kind = generator.randrange(4)
    if kind == 0:  # extreme weights
        offset = generator.randrange(0, len(body) - 4, 4)
        number = np.float32(generator.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40])).tobytes()
        body = body[:offset] + number + body[offset + 4 :]
    elif kind == 1:
        return generator.choice([0, 1, 2**22 + 1, 2**40, 2**63, 2**64 - 1]).to_bytes(8, "little") + data[8:]
    else:
        node, key = generator.choice(leaves(header))
        node[key] = generator.choice(
            [*VALUES, "F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "C64", "F4", [0, 10**12], [2**40, 2**40]]
        )
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


class Code:
    """A pickle that raises when it is executed."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, ("raise SystemExit('code from a file was run')",)


def replace_file(folder: Path, generator: random.Random) -> None:
    """Replaces one of the two files by a link, a directory, a pickle or a huge file."""
    path = folder / generator.choice(["config.json", "model.safetensors"])
    kind = generator.randrange(6)
    if kind == 0:
        path.unlink()
        path.symlink_to(folder.parent / SECRET / path.name)
    elif kind == 1:
        path.unlink()
        path.symlink_to(generator.choice(["/dev/zero", "/etc/passwd", "/nowhere", path.name]))
    elif kind == 2:
        path.unlink()
        path.mkdir()
    elif kind == 3:
        path.unlink()
        (folder / f"pytorch_model{generator.choice(['.bin', '.pt', '.pkl', '.ckpt'])}").write_bytes(
            pickle.dumps(Code())
        )
    elif kind == 4:
        path.write_bytes(pickle.dumps(Code()))
    else:
        with path.open("wb") as file:
            file.truncate(2**40)  # sparse: uses no disk space


def install_audit_hook(events: list[str]) -> None:
    """Records events that a model must never cause."""
    forbidden = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class"}

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event in forbidden or (event == "open" and any(word in str(details[0]) for word in (SECRET, "passwd"))):
            events.append(f"{event} {details!r}"[:200])

    sys.addaudithook(hook)


def save_model(folder: Path) -> tuple[bytes, bytes]:
    """Saves a tiny model in a directory that mutated models must not read, and returns its two files."""
    import torch

    from musgenre import AudioSpec, Component, GenreClassifier, GenreNetwork, ModelConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = ModelConfig(
        "tiny",
        ("a", "b"),
        AudioSpec(8_000, window_seconds=1.0, hop_seconds=1.0),
        Component("logmel", {"n_fft": 512, "hop_length": 200, "n_mels": 40}),
        Component("vgg16-slim", {"width": 0.02, "dense_units": 8}),
        hidden=(4,),
    )
    GenreClassifier(GenreNetwork.from_config(config), config, device="cpu").save_pretrained(folder / SECRET)
    return tuple((folder / SECRET / name).read_bytes() for name in ("config.json", "model.safetensors"))  # type: ignore[return-value]


def write(model: Path, files: tuple[bytes, bytes], generator: random.Random) -> str:
    """Writes a mutated model and returns which file was changed."""
    config, weights = files
    which = generator.choices(["config", "weights", "directory"], [0.6, 0.35, 0.05])[0]
    (model / "config.json").write_bytes(changed_config(config, generator) if which == "config" else config)
    (model / "model.safetensors").write_bytes(changed_weights(weights, generator) if which == "weights" else weights)
    if which == "directory":
        replace_file(model, generator)
    return which


def outcome(model: Path) -> str:
    from musgenre import GenreClassifier
    from musgenre.core.errors import MusgenreError

    try:
        classifier = GenreClassifier.from_pretrained(model, device="cpu")
        prediction = classifier.predict((0.1 * np.sin(np.arange(4_000)), 8_000))
    except MusgenreError as error:
        str(error)
        return type(error).__name__
    if not np.isfinite(prediction.windows.probabilities).all():
        raise ValueError("probabilities that are not finite")
    return "Prediction"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: collections.Counter[str] = collections.Counter()
    failures: dict[str, str] = {}
    forbidden: list[str] = []
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        files = save_model(Path(folder))
        for module in ("torchvision", "timm"):  # their import time is not the model's
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        install_audit_hook(forbidden)
        for number in range(options.count):
            generator = random.Random(options.seed * 10**6 + number)
            model = Path(tempfile.mkdtemp(dir=folder))
            name = f"{number} ({write(model, files, generator)})"
            forbidden.clear()
            faulthandler.dump_traceback_later(LIMIT_WAITING, exit=True)  # code that hangs in C handles no signals
            start = time.process_time()
            try:
                result = outcome(model)
            except BaseException as error:  # noqa: BLE001 - any other exception is a failure
                result = failures[name] = repr(error)[:300]
            seconds = time.process_time() - start
            faulthandler.cancel_dump_traceback_later()
            if seconds > LIMIT_SECONDS or forbidden:
                failures[name] = f"{seconds:.1f} s, {forbidden}"
            slowest = max(slowest, (round(seconds, 2), name))
            results[result] += 1
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    summary = {"inputs": results.total(), "results": dict(results), "slowest": slowest, "grown_mib": grown >> 20}
    sys.stdout.write(json.dumps({**summary, "failures": failures}) + "\n")
    return 1 if failures or grown > LIMIT_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
