"""The checks of the project as nox sessions, called by ``.ci/run`` and by the workflows in ``.github``.

Every session runs in the current environment, for instance that of ``pip install -e ".[dev]"``. Separate environments
would install PyTorch, several gigabytes, once for each session.
"""

from __future__ import annotations

import os
import sysconfig

import nox

nox.options.sessions = ["lint", "tests"]
# If nox is started by its path from an environment that is not activated, find the other tools of that environment.
os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"]))

THREADS = [2, 4, 8]
COVERAGE = ["--cov=musgenre", "--cov-report=term", "--cov-fail-under=90"]
# The tests of a file run in one process. A process that a timeout ended is not replaced: it would repeat the same test.
PARALLEL = ["--numprocesses=auto", "--dist=loadfile", "--max-worker-restart=0"]


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the fast tests, exactly as ``pytest`` does."""
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """Run all tests, also the slow ones, in parallel; measure the coverage."""
    # With one thread in each process: more threads than cores wait for each other.
    options = ["-m", "", "--hypothesis-profile=ci", *COVERAGE, *PARALLEL]
    session.run("pytest", *options, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(venv_backend="none")
@nox.parametrize("count", THREADS)
def threads(session: nox.Session, count: int) -> None:
    """Run the tests of threads with 2, 4 and 8 threads in PyTorch."""
    # The tests have a parameter for the number of threads; run each value in the environment that fits.
    others = " or ".join(f"{other}-threads" for other in THREADS if other != count)
    options = ["-m", "", "-k", f"not ({others})", "tests/threads"]
    session.run("pytest", *options, *session.posargs, env={"OMP_NUM_THREADS": str(count)})


@nox.session(venv_backend="none")
def app(session: nox.Session) -> None:
    """Test the web page, in Chromium if it is installed; needs the extra ``app-test``."""
    session.run("pytest", "-m", "", "tests/app", *session.posargs)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check spelling, style, types and layers; needs the extras ``lint`` and ``test``."""
    session.run("codespell")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    session.run("pytest", "-m", "", "tests/typed")


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation, which runs the examples, and test its code; needs the extra ``docs``."""
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build/html")
    session.run("sphinx-build", "-W", "-b", "doctest", "docs", "docs/_build/doctest")


@nox.session(venv_backend="none")
def package(session: nox.Session) -> None:
    """Build the source distribution and the wheel in ``dist``; needs hatchling."""
    session.run("hatchling", "build", "-d", "dist", *session.posargs)


@nox.session(venv_backend="none")
def plugin(session: nox.Session) -> None:
    """Install the example of a package with plugins, run its tests and remove it; needs the extra ``test``."""
    session.run("python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "./examples/plugin")
    try:
        with session.chdir("examples/plugin"):
            session.run("pytest", "-q")
    finally:
        session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "musgenre-plugin-example")
