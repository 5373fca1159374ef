"""Components read from their source text are those that importing finds."""

import pytest

import utils
from components import COMPUTED, REQUIRED, components, find_class, find_component, first_sentence
from datasets import DATASETS
from losses import LOSSES
from methods import METHODS
from networks import NETWORKS
from utils import InputError

REGISTRIES = {"networks": NETWORKS, "losses": LOSSES, "methods": METHODS, "datasets": DATASETS}
ALL = [(package, name) for package, registry in REGISTRIES.items() for name in registry.names()]


@pytest.mark.parametrize("package", REGISTRIES)
def test_every_registered_name_is_read(package):
    assert list(components(package)) == REGISTRIES[package].names()


@pytest.mark.parametrize(("package", "name"), ALL, ids=["/".join(pair) for pair in ALL])
def test_settings_and_defaults_are_those_of_the_class(package, name):
    found, cls = find_component(package, name), REGISTRIES[package].get(name)
    assert found.load() is cls
    parameters = utils.parameters(cls)
    assert list(found.settings) == list(parameters)
    for key, parameter in parameters.items():
        if parameter.annotation is not parameter.empty:
            assert found.settings[key].annotation == parameter.annotation, key
        required = parameter.default is parameter.empty
        assert (found.settings[key].default is REQUIRED) == required, key
        if required:
            continue
        assert found.settings[key].default is not COMPUTED or key not in ("height", "width"), key
        if found.settings[key].default is not COMPUTED:
            assert found.settings[key].default == parameter.default, key
    assert found.defaults == getattr(cls, "defaults", {})
    assert len(found.summary.split()) >= 3 and not found.summary.endswith("et al"), found.summary


def test_a_class_without_a_name_is_found_by_its_own():
    assert find_class("datasets", "Augment").settings["hue"].default == 0.1
    with pytest.raises(LookupError, match="no file of losses/ defines the class Augment"):
        find_class("losses", "Augment")


def test_a_component_of_other_code_is_found_once_registered(monkeypatch):
    class Other:
        defaults = {"scales": [0]}  # noqa: RUF012

        def __init__(self, weight: float = 1.0) -> None: ...

    with pytest.raises(InputError, match=r"no methods/other\.py"):
        find_component("methods", "other")
    monkeypatch.setitem(METHODS._classes, "other", Other)
    found = find_component("methods", "other")
    assert found.load() is Other and found.defaults == {"scales": [0]}
    assert found.settings["weight"].annotation == "float"


def test_a_sentence_ends_neither_at_initials_nor_at_et_al():
    text = "Depth by D. Eigen: a network (Eigen et al. 2014), in two\nstages. More follows.\n\nSecond."
    assert first_sentence(text) == "Depth by D. Eigen: a network (Eigen et al. 2014), in two stages"
