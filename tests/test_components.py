"""Every registered component: it builds with its defaults, names its source, explains its settings.

Components that are registered later are tested automatically. A component with arguments that have no default
gets a line in NEEDS.
"""

import importlib
import inspect
import re
import sys

import pytest
from torch import nn

import utils
from datasets import DATASETS, build_dataset
from losses import LOSSES
from methods import METHODS
from methods._base import Method
from networks import NETWORKS
from tools.layouts import LAYOUTS

REGISTRIES = {"networks": NETWORKS, "losses": LOSSES, "methods": METHODS, "datasets": DATASETS}
COMPONENTS = [(folder, name) for folder, registry in REGISTRIES.items() for name in registry.names()]

# Arguments without a default, for one small example of each.
CHANNELS = (4, 8, 8, 8, 8)
NEEDS = {
    ("networks", "cross_view"): {"decoder": nn.Identity(), "num_channels": (8, 8, 8, 8, 8)},
    ("networks", "context"): {"encoder": "timm/test_efficientnet"},
    ("networks", "depth_decoder"): {"num_channels": CHANNELS},
    ("networks", "depth_decoder_bilinear"): {"num_channels": CHANNELS},
    ("networks", "depth_decoder_slim"): {"num_channels": CHANNELS},
    ("networks", "dpt_decoder"): {"num_channels": CHANNELS},
    ("networks", "grid_decoder"): {"num_channels": (4, *CHANNELS)},
    ("networks", "image_decoder"): {"num_channels": CHANNELS},
    ("networks", "refine_decoder"): {"num_channels": CHANNELS},
    ("networks", "pose_decoder"): {"num_channels": CHANNELS, "num_input_features": 2},
    ("networks", "split_decoder"): {"num_channels": CHANNELS},
    ("networks", "timm"): {"model": "test_efficientnet"},
    ("networks", "vit"): {"model": "test_vit"},
}
# Datasets for evaluation only: single images.
TEST_ONLY = {"make3d"}
# Package that reads a dataset's files, in addition to the requirements.
PACKAGE_OF = {"nuscenes": "nuscenes.nuscenes"}

each = pytest.mark.parametrize(("folder", "name"), COMPONENTS, ids=["/".join(pair) for pair in COMPONENTS])


def settings_of(component: type) -> list[inspect.Parameter]:
    parameters = inspect.signature(component).parameters.values()
    return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def missing_settings(folder: str, name: str, component: type) -> list[str]:
    given = NEEDS.get((folder, name), {})
    return [p.name for p in settings_of(component) if p.default is p.empty and p.name not in given]


@each
def test_it_is_built_from_its_defaults(folder, name, worlds):
    component = REGISTRIES[folder].get(name)
    if folder == "datasets":
        return build_small_dataset(name, worlds)
    missing = missing_settings(folder, name, component)
    assert not missing, f"{folder}/{name} needs {missing}: give an example in NEEDS of {__name__}"
    settings = dict(NEEDS.get((folder, name), {}))
    if "weights_init" in utils.settings_of(component):
        settings["weights_init"] = "scratch"  # nothing is to be fetched
    built = component(**settings)
    assert isinstance(built, Method if folder == "methods" else nn.Module)


def build_small_dataset(name, worlds):
    if name in PACKAGE_OF:
        pytest.importorskip(PACKAGE_OF[name])
    if name not in LAYOUTS.names():
        proof = f"tests/datasets/test_{name}.py"
        assert (utils.PROJECT / proof).exists(), f"nothing draws a datasets/{name}; do so in {proof}"
        pytest.skip(f"has no layout in tools/layouts; {proof} draws its scene")
    root = worlds.get(name)
    options = {"dataset": name, "data_path": root, "height": 64, "width": 96}
    if (root / "splits").is_dir():
        options["split"] = root / "splits"
    dataset = build_dataset(options, part="test" if name in TEST_ONLY else "train")
    sample = dataset[0]
    assert len(dataset) and sample.images[0].shape[1:] == (3, 64, 96)
    assert len(sample.images[0]) == dataset.cameras
    assert dataset.protocol.max_depth > 0


@each
def test_file_has_an_idea_and_class_explains_every_setting(folder, name):
    component = REGISTRIES[folder].get(name)
    where = component.__module__
    idea = importlib.import_module(where).__doc__ or ""
    assert len(idea.split()) > 10, f"{where} opens with its idea in words, the formula, and the paper"
    if folder in ("networks", "methods"):
        assert re.search(r"\b(19|20)\d\d\b|et al\.|\(.+, .+\)", idea), f"{where} does not name its source"
    text = component.__doc__ or ""
    assert text.strip(), f"{where} has no docstring on its class"
    documented = documented_settings(text)
    # Those of a constructor that it inherits are explained where that is written.
    own = settings_of(component) if "__init__" in vars(component) else []
    unexplained = [p.name for p in own if p.name not in documented]
    assert not unexplained, (
        f"{where}: {component.__name__} does not explain {', '.join(unexplained)} under Args"
    )
    unknown = documented - {p.name for p in settings_of(component)}
    assert not unknown, f"{where}: {component.__name__} explains {unknown}, which it does not take"


def documented_settings(text: str) -> set[str]:
    """The names in a docstring's Args: `name: ...` or `one, other: ...`, one indentation in."""
    section = re.search(
        r"^ *Args:\n(.*?)(?=^ *(?:Raises|Returns|Attributes):|\Z)", inspect.cleandoc(text), re.M | re.S
    )
    heads = re.findall(r"^    (\w+(?:, \w+)*):", section[1], re.M) if section else []
    return {name for head in heads for name in head.split(", ")}


@each
def test_its_name_is_that_of_its_file_or_within_it(folder, name):
    file = sys.modules[REGISTRIES[folder].get(name).__module__].__name__.split(".")
    assert file[0] == folder and name.split("_")[0] in file[1], f"{folder}/{name} is registered in {file}"
