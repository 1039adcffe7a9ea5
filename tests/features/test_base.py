from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from musgenre.core.errors import ConfigError, ParameterError
from musgenre.features import FEATURES, FeatureExtractor, base, register_feature


def test_importing_the_packages_is_cheap():
    code = "import sys, musgenre.features as f, musgenre.transforms as t; print('torch' in sys.modules, dir(f), dir(t))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.startswith("False")
    assert "LogMel" in output
    assert "TimeMask" in output


def test_builtins():
    assert {"logmel", "logmel-image", "mfcc"} <= set(FEATURES.names())
    feature = FEATURES.get("logmel")(sample_rate=22_050)
    assert feature(torch.randn(2, 66_150)).shape == (2, 1, 128, 130)


def test_a_misspelled_option():
    with pytest.raises(ConfigError, match="Did you mean 'n_mels"):
        FEATURES.build("logmel", {"sample_rate": 22_050, "n_mel": 64})


def test_custom_feature(request):
    request.addfinalizer(lambda: FEATURES.unregister("energy"))

    @register_feature("energy")
    class Energy(FeatureExtractor):
        def __init__(self, *, sample_rate: int, hop_length: int = 100) -> None:
            super().__init__(sample_rate=sample_rate)
            self.hop_length = hop_length

        def out_shape(self, samples):
            return 1, 1, samples // self.hop_length

        def forward(self, waveform):
            return waveform.square().unfold(-1, self.hop_length, self.hop_length).mean(-1)[:, None, None]

    feature = FEATURES.build("energy", {"sample_rate": 8000})
    assert feature.sample_rate == 8000
    assert feature(torch.zeros(2, 450)).shape == (2, *feature.out_shape(450))


def test_both_methods_are_required():
    class WithoutShape(FeatureExtractor):
        def forward(self, waveform):
            return waveform

    with pytest.raises(TypeError, match="out_shape"):
        WithoutShape(sample_rate=8000)


@pytest.mark.parametrize("rate", [0, -8000, 22_050.0])
def test_invalid_sample_rate(rate):
    for name in ("logmel", "logmel-image", "mfcc"):
        with pytest.raises(ParameterError, match="sample_rate"):
            FEATURES.build(name, {"sample_rate": rate})


def test_the_base_module_imports_no_feature():
    source = Path(base.__file__).read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom | ast.Import)]
    assert imports
    assert not [node for node in imports if "musgenre.features" in ast.unparse(node)]
