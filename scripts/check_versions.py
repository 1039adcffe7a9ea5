"""Checks that the oldest and the newest allowed versions of what musgenre depends on give the same figures.

.. code-block:: console

    $ python scripts/check_versions.py lowest           # a new environment with every lower bound of pyproject.toml
    $ python scripts/check_versions.py newest           # one with the newest of everything
    $ python scripts/check_versions.py lowest --print   # only the constraints, for pip install --constraint

Each installs the wheel of this folder, runs the tests that need no extra, and compares the probabilities of the default
model on three made signals with those of the environment that the script runs in: at most 0.001 apart. ``write FILE``
and ``compare FILE`` do the last by hand, for environments on different machines.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-3
RATE = 22_050
TESTS = (
    "tests/robustness/test_numbers.py",
    *(f"tests/{name}" for name in ("audio", "datasets", "features", "training", "transforms")),
    *(
        f"tests/test_{name}.py"
        for name in ("classifier", "evaluation", "finetuning", "functional", "metrics", "weights")
    ),
)
SHOWN = ("torch", "numpy", "soundfile", "soxr", "safetensors")
BOUND = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?>=([\w.]+)")


def figures() -> dict[str, Any]:
    """Returns the versions here, and the default model's probabilities of three signals."""
    import numpy as np

    import musgenre

    time = np.arange(10 * RATE) / RATE
    noise = np.random.default_rng(0).normal(scale=0.1, size=time.size)
    chord = sum(np.sin(2 * np.pi * 110 * step * time) for step in (1, 1.25, 1.5)) * 0.2
    signals = {"noise": noise, "chord": chord, "beat": chord + 4 * noise * (time % 0.5 < 0.05)}
    classifier = musgenre.GenreClassifier.from_pretrained(device="cpu")
    predicted = {name: classifier.predict((signal, RATE)) for name, signal in signals.items()}
    return {
        "versions": {name: importlib.metadata.version(name) for name in SHOWN},
        "probabilities": {name: list(one.probabilities.values()) for name, one in predicted.items()},
    }


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Returns by how much the probabilities differ at most."""
    pairs = [zip(row, other["probabilities"][name], strict=True) for name, row in one["probabilities"].items()]
    return float(max(abs(a - b) for pair in pairs for a, b in pair))


def compare(kept: Path) -> int:
    """Prints how far the figures here are from those in a file; 1 if that is too far."""
    other, here = json.loads(kept.read_text(encoding="utf-8")), figures()
    apart = difference(here, other)
    print(f"{other['versions']} and {here['versions']}: probabilities at most {apart:.2g} apart")
    return int(apart > TOLERANCE)


def lowest() -> list[str]:
    """Returns every lower bound of pyproject.toml, for installing and for tests, as pip's constraints."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [f"{name}=={version}" for name, version in BOUND.findall("\n".join(named)) if name != "musgenre"]


def check(constraints: list[str], *, tests: str) -> int:
    """Installs the package into a new environment, runs the tests there, and compares the figures."""
    with tempfile.TemporaryDirectory() as folder:
        environment, kept = Path(folder) / "environment", Path(folder) / "figures.json"
        kept.write_text(json.dumps(figures()), encoding="utf-8")
        (Path(folder) / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
        venv.create(environment, with_pip=True)
        python = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
        packages = [".", *(one.split("==")[0] for one in constraints), "pytest", "hypothesis", "psutil"]
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", f"{folder}/constraints.txt", *packages]
        for command in (
            install,
            [python, "-m", "pytest", "-q", *tests.split()],
            [python, str(Path(__file__)), "compare", str(kept)],
        ):
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                return 1
    return 0


def main() -> int:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["lowest", "newest", "write", "compare"])
    parser.add_argument("file", type=Path, nargs="?", help="where figures are written, or read from")
    parser.add_argument("--print", action="store_true", help="print the constraints, and install nothing")
    parser.add_argument("--tests", default=" ".join(TESTS), help="what pytest is given")
    told = parser.parse_args()
    if told.what == "write":
        told.file.write_text(json.dumps(figures()), encoding="utf-8")
        return 0
    if told.what == "compare":
        return compare(told.file)
    constraints = lowest() if told.what == "lowest" else []
    if told.print:
        print("\n".join(constraints))
        return 0
    return check(constraints, tests=told.tests)


if __name__ == "__main__":
    sys.exit(main())
