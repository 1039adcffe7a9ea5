"""Compare results with the lowest and the newest allowed versions of all dependencies.

.. code-block:: console

    $ python scripts/check_versions.py lowest           # a new environment with every lower bound of pyproject.toml
    $ python scripts/check_versions.py newest           # one with the newest of everything
    $ python scripts/check_versions.py lowest --print   # only the constraints, for pip install --constraint

Each installs the wheel of this directory, runs the tests that need no extra, and compares the probabilities of the
default model for three synthetic signals with those of the current environment, with a tolerance of 0.001. ``write
FILE`` and ``compare FILE`` do the comparison separately, for environments on different machines.
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
    """Return the installed versions and the default model's probabilities for three signals."""
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
    """Return the maximum absolute difference of the probabilities."""
    pairs = [zip(row, other["probabilities"][name], strict=True) for name, row in one["probabilities"].items()]
    return float(max(abs(a - b) for pair in pairs for a, b in pair))


def compare(path: Path) -> int:
    """Compare the results with those in a file; return 1 if the difference exceeds the tolerance."""
    other, here = json.loads(path.read_text(encoding="utf-8")), figures()
    apart = difference(here, other)
    print(f"{other['versions']} and {here['versions']}: maximum difference of the probabilities {apart:.2g}")
    return int(apart > TOLERANCE)


def lowest() -> list[str]:
    """Return all lower bounds of pyproject.toml, including those of the tests, as pip constraints."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [f"{name}=={version}" for name, version in BOUND.findall("\n".join(named)) if name != "musgenre"]


def check(constraints: list[str], *, tests: str) -> int:
    """Install the package into a new environment, run the tests there, and compare the results."""
    with tempfile.TemporaryDirectory() as folder:
        environment, results = Path(folder) / "environment", Path(folder) / "figures.json"
        results.write_text(json.dumps(figures()), encoding="utf-8")
        (Path(folder) / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
        venv.create(environment, with_pip=True)
        python = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
        packages = [".", *(one.split("==")[0] for one in constraints), "pytest", "hypothesis", "psutil"]
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", f"{folder}/constraints.txt", *packages]
        for command in (
            install,
            [python, "-m", "pytest", "-q", *tests.split()],
            [python, str(Path(__file__)), "compare", str(results)],
        ):
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                return 1
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["lowest", "newest", "write", "compare"])
    parser.add_argument("file", type=Path, nargs="?", help="file of the results to write or to compare with")
    parser.add_argument("--print", action="store_true", help="print the constraints, and install nothing")
    parser.add_argument("--tests", default=" ".join(TESTS), help="arguments of pytest")
    options = parser.parse_args()
    if options.what == "write":
        options.file.write_text(json.dumps(figures()), encoding="utf-8")
        return 0
    if options.what == "compare":
        return compare(options.file)
    constraints = lowest() if options.what == "lowest" else []
    if options.print:
        print("\n".join(constraints))
        return 0
    return check(constraints, tests=options.tests)


if __name__ == "__main__":
    sys.exit(main())
