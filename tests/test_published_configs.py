"""A config of the published SurroundDepth means here what it meant there."""

import pytest

from options import parse
from utils import PROJECT, InputError

COMMON = "batch_size = 6\nmin_depth = 0.1\nwidth = 640\nskip = True\nfocal = True\n"
DDAD = "dataset = ddad\nheight = 384\nmax_depth = 200\nfocal_scale = 715.0873\nuse_fix_mask = True\n"
NUSC = "dataset = nusc\nheight = 352\nmax_depth = 80\nfocal_scale = 500\nheight_ori = 1600\nwidth_ori = 900\n"
PRETRAIN = "joint_pose = True\nuse_sfm_spatial = True\nmatch_spatial_weight = 0.1\n"
SPATIAL = "joint_pose = True\nspatial = True\n"
# The six published configs, and ours of the same experiment.
PUBLISHED = {
    "ddad": ("ddad", DDAD + "num_epochs = 20\n"),
    "ddad_scale_pretrain": ("ddad_scale_pretrain", DDAD + PRETRAIN + "num_epochs = 10\nthr_dis = 1\n"),
    "ddad_scale": ("ddad_scale", DDAD + SPATIAL + "num_epochs = 10\nspatial_weight = 0.075\n"),
    "nusc": ("nuscenes", NUSC + "num_epochs = 5\n"),
    "nusc_scale_pretrain": ("nuscenes_scale_pretrain", NUSC + PRETRAIN + "num_epochs = 5\nthr_dis = 10\n"),
    "nusc_scale": ("nuscenes_scale", NUSC + SPATIAL + "num_epochs = 2\nspatial_weight = 0.06\n"),
}
# What one file spells out and the other leaves to a default.
DEFAULTS = {
    "num_layers": 34,
    "augment": {"flip": 0.5},
    "method": {"focal": True, "skip": True, "joint_pose": False},
    "dataset": {"masks": False},
}
PER_RUN = {"config", "model_name", "keep_checkpoints", "keep_best"}


def write(folder, name: str, text: str) -> str:
    path = folder / f"{name}.txt"
    path.write_text(COMMON + text)
    return str(path)


def settings_of(words: list[str]) -> dict:
    values = {key: value for key, value in vars(parse(words)).items() if key not in PER_RUN}
    for key, value in DEFAULTS.items():
        if isinstance(value, dict):
            values[key] = {**value, **values[key]}
        else:
            values[key] = value if values[key] is None else values[key]
    return values


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_and_ours_are_the_same_experiment(name, tmp_path, capsys):
    ours, text = PUBLISHED[name]
    theirs = settings_of(["--config", write(tmp_path, name, text)])
    assert theirs == settings_of(["--config", str(PROJECT / f"configs/surround_depth_{ours}.yaml")])
    said = capsys.readouterr().err
    assert "batch_size 6 counts images there and frame sets of 6 cameras here: it is now 1" in said
    assert ("height_ori (follows from the recordings)" in said) == ("nusc" in name)


def test_flags_that_a_config_leaves_out_are_off_as_there(tmp_path):
    path = tmp_path / "bare.txt"
    path.write_text("dataset = ddad\nspatial = True\n")
    options = parse(["--config", str(path)])
    assert options.method["focal"] is False and options.method["skip"] is False
    assert options.losses == {"spatial": {"weight": 0.1}}
    assert (options.batch_size, options.num_layers, options.max_depth) == (2, 34, 100.0)


def test_default_method_has_the_published_network():
    options = parse(["--method", "surround_depth", "--dataset", "ddad"])
    assert (options.num_layers, options.height, options.width, options.batch_size) == (34, 384, 640, 1)
    assert parse(["--method", "surround_depth", "--num_layers", "18"]).num_layers == 18


def test_the_command_line_wins_over_it(tmp_path):
    path = write(tmp_path, "ddad", DDAD)
    options = parse(["--config", path, "--batch_size", "3", "--method.focal_scale", "600"])
    assert options.batch_size == 3 and options.method["focal_scale"] == 600


def test_an_unknown_key_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"unknown option 'focal_scal'"):
        parse(["--config", write(tmp_path, "ddad", DDAD + "focal_scal = 3\n")])


def test_a_text_config_of_another_method_stays_as_it_is(tmp_path):
    path = tmp_path / "mono.txt"
    path.write_text("batch_size = 12\nheight = 96\n")
    assert parse(["--config", str(path)]).batch_size == 12
