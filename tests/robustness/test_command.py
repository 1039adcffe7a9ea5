"""``musgenre predict`` with limits for untrusted files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musgenre.cli.main import app


@pytest.mark.parametrize("decode", ["inline", "subprocess"])
def test_files_beyond_a_limit_are_reported(tmp_path: Path, decode: str, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(4 * 8_000, 2))
    for name, samples in (("good", noise[:8_000]), ("long", noise), ("wide", np.repeat(noise[:8_000], 2, axis=1))):
        soundfile.write(tmp_path / f"{name}.wav", samples, 8_000)
    limits = ["--max-duration", "3", "--max-channels", "2", "--max-bytes", "200000", "--decode", decode]
    result = CliRunner().invoke(app, ["predict", *limits, *map(str, sorted(tmp_path.iterdir()))])
    assert result.exit_code == 2
    assert "good.wav" in result.output
    errors = capfd.readouterr().err
    assert "long.wav: 4.0 seconds, but the limit is 3.0" in errors
    assert "wide.wav: 4 channels, but the limit is 2" in errors


def test_invalid_limits_are_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["predict", "--max-channels", "0", str(tmp_path / "song.wav")])
    assert result.exit_code
    assert "max_channels must be positive" in str(result.exception)
