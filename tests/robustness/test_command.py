"""What the command says of files that are not trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musgenre.cli.main import app


@pytest.mark.parametrize("decode", ["inline", "subprocess"])
def test_limits_and_decoding(tmp_path: Path, decode: str, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(4 * 8_000, 2))
    for name, samples in (("good", noise[:8_000]), ("long", noise), ("wide", np.repeat(noise[:8_000], 2, axis=1))):
        soundfile.write(tmp_path / f"{name}.wav", samples, 8_000)
    limits = ["--max-duration", "3", "--max-channels", "2", "--max-bytes", "200000", "--decode", decode]
    done = CliRunner().invoke(app, ["predict", *limits, *map(str, sorted(tmp_path.iterdir()))])
    assert done.exit_code == 2
    assert "good.wav" in done.output
    told = capfd.readouterr().err
    assert "long.wav: 4.0 seconds, but the limit is 3.0" in told
    assert "wide.wav: 4 channels, but the limit is 2" in told


def test_limits_that_are_none(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["predict", "--max-channels", "0", str(tmp_path / "song.wav")])
    assert done.exit_code
    assert "max_channels must be positive" in str(done.exception)
