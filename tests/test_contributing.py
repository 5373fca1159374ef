"""The examples in CONTRIBUTING.md run and pass the tests of every component."""

import re
import sys
import types

import pytest
import torch
from PIL import Image

from structures import Prediction
from tests import test_components as components
from utils import PROJECT

EXAMPLES = re.findall(
    r"^`((?:datasets|networks|losses|methods)/\w+)\.py`.*?```python\n(.*?)```.*?```python\n(.*?)```",
    (PROJECT / "CONTRIBUTING.md").read_text(),
    re.DOTALL | re.MULTILINE,
)
FOR_PROOFS = {"pytest": pytest, "torch": torch, "Image": Image, "Prediction": Prediction}


@pytest.fixture
def proofs(monkeypatch):
    """The examples as modules that nobody knows afterwards; name → test function of their proofs."""
    functions = {}
    for path, code, proof in EXAMPLES:
        registry = components.REGISTRIES[path.split("/")[0]]
        registry.names()
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
        module = types.ModuleType(path.replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, f"{path}.py", "exec"), vars(module))
        names = {**vars(module), **FOR_PROOFS}
        exec(proof, names)
        functions |= {name: value for name, value in names.items() if name.startswith("test_")}
    return functions


def test_there_is_one_example_of_each_kind():
    assert sorted(path.split("/")[0] for path, _, _ in EXAMPLES) == sorted(components.REGISTRIES)


def test_the_proofs_hold(proofs, tmp_path, drawn_batch):
    proofs["test_the_target_stands_between_its_sources"](tmp_path)
    proofs["test_features_halve_five_times"](64, 96)
    proofs["test_a_flat_disparity_costs_the_whole_margin"]()
    proofs["test_the_loss_falls_on_one_scene"](drawn_batch)


def test_the_examples_are_components_like_any_other(proofs, worlds):
    for path, _, _ in EXAMPLES:
        folder, name = path.split("/")
        components.test_file_has_an_idea_and_class_explains_every_setting(folder, name)
        components.test_its_name_is_that_of_its_file_or_within_it(folder, name)
        if folder != "datasets":  # the proof has opened that one
            components.test_it_is_built_from_its_defaults(folder, name, worlds)
