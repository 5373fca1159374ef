"""Sources of a run's options, and refusals before the first image is read."""

import re

import pytest
import torch

import flags
from components import Setting
from datasets import DATASETS
from datasets.augmentation import Augment
from losses import LOSSES
from methods import METHODS
from options import OPTIONS, effective, parse, read_config
from options.values import Typed, read_settings
from tools._options import add_settings, new_parser
from utils import PROJECT, InputError, check_settings, read_yaml, to_yaml
from views import Views

CONFIGS = sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "configs").glob("*.yaml"))


def write(path, text):
    path.write_text(text)
    return str(path)


def test_later_sources_of_options_win(tmp_path):
    first = write(tmp_path / "a.yaml", "width: 320\nheight: 96\nbatch_size: 3\n")
    second = write(tmp_path / "b.yaml", "height: 128\nbatch_size: 4\n")
    saved = {"width": 96, "height": 64, "batch_size": 2, "seed": 7}
    options = parse(["--config", first, second, "--batch_size", "5"], saved=saved)
    assert (options.seed, options.width, options.height, options.batch_size) == (7, 320, 128, 5)
    assert options.num_epochs == parse([]).num_epochs == 20


def test_config_may_stand_several_times(tmp_path):
    files = [
        write(tmp_path / name, text) for name, text in [("a.yaml", "height: 96"), ("b.yaml", "width: 96")]
    ]
    options = parse(["--config", files[0], "--batch_size", "2", "--config", files[1]])
    assert (options.height, options.width, options.model_name) == (96, 96, "a")


def test_a_config_has_every_name_of_a_flag(tmp_path):
    text = "exp_name: mine\nbackbone: hrnet\nlr_sche_type: cos\neta_min: 1e-6\njpg: true"
    options = parse(["--config", write(tmp_path / "a.yaml", text)])
    assert (options.model_name, options.encoder, options.scheduler) == ("mine", "hrnet18", "cosine")
    assert options.min_learning_rate == 1e-6


@pytest.mark.parametrize("before", ["--frame_ids 0 -1 1", "--config {config}", "--device cpu"])
@pytest.mark.parametrize("words", [["--dataset.intrinsics=9 9 4 3"], ["--dataset.intrinsics", "9 9 4 3"]])
def test_a_value_of_several_words_belongs_to_its_setting(before, words, tmp_path):
    before = before.format(config=write(tmp_path / "a.yaml", "dataset: folder")).split()
    options = parse([*before, *words, "--dataset", "folder"])
    assert options.dataset == {"name": "folder", "intrinsics": "9 9 4 3"}


@pytest.mark.parametrize("pattern", ["*.png", "[0-9]*.png", "left.png 0*.png"])
def test_a_pattern_of_files_need_not_be_yaml(pattern):
    assert parse(["--dataset", "folder", "--dataset.files", pattern]).dataset["files"] == pattern


@pytest.mark.parametrize("folder", [None, PROJECT])
def test_our_configs_are_found_from_every_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder or tmp_path)
    assert parse(["--config", "configs/demo.yaml"]).pose_encoder == "resnet10t"
    with pytest.raises(InputError, match=r"there is no config configs/dem\.yaml; did you mean 'configs/demo"):
        parse(["--config", "configs/dem.yaml"])


def test_a_typed_default_wins_over_a_config(tmp_path):
    config = write(tmp_path / "a.yaml", "batch_size: 5\nmethod: {name: monodepth2, num_layers: 34}\n")
    options = parse(["--config", config, "--num_layers", "18", "--batch_size", "12"])
    assert (options.num_layers, options.batch_size, options.method) == (18, 12, {"name": "monodepth2"})


def test_a_section_setting_that_is_an_option_becomes_the_option(tmp_path):
    config = write(tmp_path / "a.yaml", "dataset: {name: kitti, height: 96, stereo_weight: 1}\n")
    with pytest.raises(InputError, match="dataset kitti has no setting 'stereo_weight'"):
        parse(["--config", config])
    config = write(tmp_path / "a.yaml", "dataset: {name: kitti, height: 96, baseline: 0.5}\n")
    options = parse(["--config", config])
    assert (options.height, options.dataset) == (96, {"name": "kitti", "baseline": 0.5})
    config = write(tmp_path / "b.yaml", "height: 64\ndataset: {name: kitti, height: 96}\n")
    with pytest.raises(InputError, match=r"b\.yaml gives height twice, 64 and dataset\.height 96; leave out"):
        parse(["--config", config])
    saved = {"height": 64, "dataset": {"name": "kitti", "height": 96}}
    assert parse([], saved=saved).height == 96  # what the run was trained with


def test_sections_are_merged_setting_by_setting(tmp_path):
    first = write(
        tmp_path / "a.yaml", "dataset: {name: kitti, baseline: 0.54}\nlosses: {smoothness: {weight: 1}}"
    )
    second = write(tmp_path / "b.yaml", "dataset: {gt_path: here}\nlosses: {photometric: {noise: 0}}")
    words = ["--config", first, second, "--losses.photometric.ssim_weight", "0.5", "--augment.hue=0"]
    options = parse(words)
    assert options.dataset == {"name": "kitti", "baseline": 0.54, "gt_path": "here"}
    assert options.losses == {"smoothness": {"weight": 1}, "photometric": {"noise": 0, "ssim_weight": 0.5}}
    assert options.augment == {"hue": 0}


@pytest.mark.parametrize("other", ["dataset: folder", "dataset: {name: folder}"])
def test_another_component_inherits_no_settings(other, tmp_path):
    first = write(tmp_path / "a.yaml", "dataset: {name: kitti, baseline: 0.54}")
    options = parse(["--config", first, write(tmp_path / "b.yaml", other)])
    assert options.dataset == {"name": "folder"}
    assert parse(["--config", first, "--dataset", "kitti"]).dataset["baseline"] == 0.54


def test_a_text_config_of_name_and_value_is_read(tmp_path):
    text = "# a comment\nheight = 96  # pixels\nuse_stereo=True\nscales = 0 1\nlearning_rate = 1e-5"
    options = parse(["--config", write(tmp_path / "a.txt", text)])
    assert (options.height, options.scales, options.learning_rate) == (96, [0, 1], 1e-5)
    assert options.frame_ids == [0, -1, 1, "s"]


def test_a_config_is_read_as_windows_saves_it(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffheight = 96\r\n\r\nwidth = 96\r\n".encode())
    (tmp_path / "b.yaml").write_bytes("\ufeffbatch_size: 3\r\n".encode())
    options = parse(["--config", str(tmp_path / "a.txt"), str(tmp_path / "b.yaml")])
    assert (options.height, options.width, options.batch_size) == (96, 96, 3)
    (tmp_path / "c.yaml").write_text("height: 96", encoding="utf-16")
    with pytest.raises(InputError, match=r"c\.yaml is not text in UTF-8"):
        parse(["--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", ".0001", "1.0e-4", "+0.0001"])
def test_every_way_to_write_a_number_is_a_number(text):
    assert read_yaml(f"a: {text}") == {"a": 1e-4}
    assert read_yaml("[1, -1, 0]") == [1, -1, 0]


def test_effective_options_survive_yaml(tmp_path):
    words = ["--learning_rate", "1e-5", "--frame_ids", "0", "s", "--model_name", "1e5", "--no_ssim"]
    options = parse([*words, "--dataset.baseline", "0.54", "--losses.photometric.noise", "1e-7"])
    settings = effective(options)
    assert read_yaml(to_yaml(settings)) == settings
    assert effective(parse([], saved=read_yaml(to_yaml(settings)))) == settings
    assert settings["model_name"] == "1e5" and "resume" not in settings


def test_torch_still_refuses_deterministic_warps_on_a_gpu():
    """The fact that the help of --deterministic states."""
    refused = torch.use_deterministic_algorithms.__doc__.split("operations will throw a")[-1]
    assert "grid_sample` when attempting to differentiate a CUDA tensor" in refused


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    output = capsys.readouterr().out
    assert stop.value.code == 0 and "--learning_rate" in output and "(default: 0.0001)" in output


def test_a_tilde_in_a_config_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.yaml", "data_path: ~/kitti\ndataset: {name: kitti, split: ~/lists}\n")
    options = parse(["--config=~/a.yaml", "--companion.name", "cityscapes", "--companion.data_path=~/city"])
    assert options.data_path == f"{tmp_path}/kitti" and options.split == f"{tmp_path}/lists"
    assert options.companion["data_path"] == f"{tmp_path}/city"


def test_name_and_data_path_have_defaults(tmp_path, monkeypatch):
    monkeypatch.setenv("PARALLAX_DATA", "/somewhere")
    options = parse(["--config", write(tmp_path / "mine.yaml", "dataset: folder")])
    assert (options.model_name, options.data_path) == ("mine", "/somewhere/folder")
    monkeypatch.delenv("PARALLAX_DATA")
    assert parse([]).data_path == str(PROJECT / "data" / "kitti")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PARALLAX_DATA", "~/data")
    assert parse([]).data_path == "/home/me/data/kitti"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--heigth 64", "no option '--heigth'; did you mean '--height'"),
        (
            "--losse.smoothness.weight 1",
            "'--losse.smoothness.weight'; did you mean '--losses.smoothness.weight'",
        ),
        ("--height 100", "height must be a multiple of 32 from 64 on, got 100; try 96"),
        ("--height 32", "height must be a multiple of 32 from 64 on, got 32; try 64"),
        ("--width 0", "width must be a multiple of 32 from 64 on, got 0; try 64"),
        ("--height tall", "^--height must be a whole number, got 'tall'"),
        ("--batch_size 0", "batch_size must be at least 1, got 0"),
        ("--max_steps 0", "max_steps must be at least 1, got 0"),
        ("--num_workers -1", "num_workers must be at least 0, got -1"),
        ("--learning_rate 0", "learning_rate must be above 0, got 0"),
        ("--clip_grad_norm 0", "clip_grad_norm must be above 0, got 0"),
        ("--min_depth 5 --max_depth 1", "need 0 < min_depth < max_depth, got 5.0 and 1.0"),
        ("--decay_step 36 26", "decay_epochs must go up, such as 26 36, got"),
        ("--optimizer adam --weight_decay 0.1", "adam has no weight decay, got 0.1; --weight_decay 0, or"),
        ("--beta1 1", "beta1 must be at least 0 and below 1, got 1.0"),
        ("--scales 0 5", "--scales must be 0 to 4, got 5"),
        (
            "--scheduler stepped",
            "--scheduler must be step, cosine or constant, got 'stepped'; did",
        ),
        ("--config nowhere.yaml", "there is no config nowhere.yaml"),
        ("--augment.hue", "--augment.hue needs a value"),
        ("--losses.smoothness 0.1", r"losses.smoothness must be settings like {weight: 1.0}, got 0.1"),
        ("--method.aling_corners false", "method monodepth2 has no setting 'aling_corners'; did you mean"),
        ("--dataset.basline 0.54", "dataset kitti has no setting 'basline'; did you mean 'baseline'"),
        ("--losses.spatail.weight 1", "there is no losses/spatail.py; did you mean 'spatial'"),
        ("--losses.spatial.weight x", "loss spatial: weight is a number, got 'x'"),
        ("--losses.spatial.weight -1", "loss spatial: weight must be at least 0, got -1"),
        ("--disparity_smoothness -1", "disparity_smoothness must be at least 0, got -1"),
        ("--weight_decay nan", "--weight_decay must be a number, got 'nan'"),
        ("--losses.spatial.wait 1", "loss spatial has no setting 'wait'"),
        ("--views.local_crob true", "views has no setting 'local_crob'; did you mean 'local_crop'"),
        ("--views.smallest_zoom 0.5", "need 1 <= smallest_zoom <= largest_zoom, got 0.5"),
        ("stray", "unexpected argument 'stray'"),
        ("--intrinsics 9", r"no option '--intrinsics'; did you mean '--dataset\.intrinsics'"),
        ("--ssim_weight 1", r"did you mean '--losses\.\w+\.ssim_weight'"),
        ("--local_crop true", r"did you mean '--views\.local_crop'"),
        ("--zzzzzz", "no option '--zzzzzz'; see run.py --help"),
        ("--deviec cpu", "did you mean '--device'"),
        ("--device", "--device needs a value"),
        ("--scales", "--scales needs a value"),
        ("--dataset.height 128", r"--dataset\.height is an option of the run; use --height 128"),
        ("--method.num_layers=34", r"--method\.num_layers is an option of the run; use --num_layers 34"),
        ("--dataset.part test", r"--dataset\.part has no effect"),
        ("--seed 18446744073709551616", "--seed must be 0 to"),
        ("--seed 1e400", "--seed must be a whole number, got '1e400'"),
        ("--batch_size 2.5", "--batch_size must be a whole number, got '2.5'"),
        ("--learning_rate -1e-3", "--learning_rate must be above 0, got -0.001"),
        ("--learning_rate nan", "--learning_rate must be a number, got 'nan'"),
        ("--losses.photometric.l1_epsilon nan", "l1_epsilon is a number, got 'nan'"),
        ("--losses.photometric.noise -1", "noise must be at least 0, got -1.0"),
        ("--num_layers 19", "resnet has 18, 34, 50, 101 or 152 layers, got 19; the nearest is 18"),
        ("--encoder resnet19", "resnet has 18, 34, 50, 101 or 152 layers, got 19; the nearest is 18"),
        ("--pose_encoder resnet_18", "there is no encoder 'resnet_18'; did you mean"),
        ("--decoder depth_decodr", r"no networks/depth_decodr\.py; did you mean 'depth_decoder'"),
        ("--method monodeth2", r"no methods/monodeth2\.py; did you mean 'monodepth2'"),
        ("--dataset kiti", r"no datasets/kiti\.py; did you mean 'kitti'"),
        ("--views.local_crop maybe", "views: local_crop is true or false, got 'maybe'"),
        ("--augment.hue 0.7", r"hue must be in \[0, 0.5\], got 0.7"),
        ("--num_scales 7", "--num_scales must be 1 to 4, got 7"),
        ("--log_dir none", "--log_dir needs a value, got 'none'"),
        ("--decay_epochs 26 none", "--decay_epochs must be a whole number, got 'none'"),
        ("--scales none", "--scales must be a whole number, got 'none'"),
        ("--load_weights_folder=", "--load_weights_folder must be a word or text, got ''"),
        ("--dataset.intrinsics= --dataset folder", "dataset folder: intrinsics needs a value, got ''"),
        ("--losses.supervised_depth.scale_weights x", "scale_weights is a list of numbers, got 'x'"),
        ("--losses.supervised_depth.scale_weights [none]", r"is a list of numbers, got '\[none\]'"),
        ("--augment.crop 3", "augment: crop is settings like {name: value}, got '3'"),
        ("--views.local_crop none", "views: local_crop is true or false, got 'none'"),
        ("--companion=", "companion's name must be a word, got ''"),
    ],
)
def test_an_impossible_command_line_is_refused_in_a_sentence(words, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(words.split())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("heigth: 64", "a.yaml has an unknown option 'heigth'; did you mean 'height'"),
        ("height: tall", "a.yaml: height must be a whole number, got 'tall'"),
        ("batch_size:", "a.yaml: batch_size must be a whole number, got None"),
        ("log_dir:", "a.yaml: log_dir needs a value, got None"),
        ("log_dir: none", "a.yaml: log_dir needs a value, got 'none'"),
        ("log_dir: [runs]", r"a.yaml: log_dir must be a word or text, got \['runs'\]"),
        ("height: [64]", r"a.yaml: height must be a whole number, got \[64\]"),
        ("data_path: ''", "a.yaml: data_path must be a word or text, got ''"),
        ("losses: {smoothness: {weight: null}}", "loss smoothness: weight needs a value, got None"),
        ("augment: {hue: null}", "augment: hue needs a value, got None"),
        ("losses: {smoothness: null}", "losses.smoothness must be settings like {weight: 1.0}, got None"),
        ("companion: ''", "companion must be a name or {name: ..., setting: value}, got ''"),
        ("no: 64", "a.yaml has an unknown option 'no'"),
        ("augment: {1: 2}", "augment has no setting '1'"),
        ("config: b.yaml", "a.yaml names a config, which only the command line does"),
        ("dataset: {name: 3}", "a.yaml: dataset's name must be a word, got 3"),
        ("no_ssim: maybe", "no_ssim must be true or false, got 'maybe'"),
        ("frame_ids: [0, l]", "frame_ids must be frames like 0 -1 1 or s"),
        ("scheduler: steps", "scheduler must be step, cosine or constant, got 'steps'; did you mean 'step'"),
        ("losses: smoothness", "losses must be {setting: value}, got 'smoothness'"),
        ("losses: {smoothness: 0.1}", "losses.smoothness must be settings like {weight: 1.0}, got 0.1"),
        ("method: 3", r"method must be a name or {name: ..., setting: value}, got 3"),
        ("- height", "must hold 'name: value' lines"),
        ("a: [1", "a.yaml does not parse"),
    ],
)
def test_an_impossible_config_is_refused_with_its_name(text, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        parse(["--config", write(tmp_path / "a.yaml", text)])


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_names_what_exists(config):
    text = (PROJECT / config).read_text()
    assert text.startswith("#") and "python " in text.split("\nmethod")[0], "the command stands on top"
    assert "data_path" not in read_config(PROJECT / config), "data roots are never in a config"
    options = parse(["--config", str(PROJECT / config)])
    for section, registry in (("method", METHODS), ("dataset", DATASETS)):
        settings = dict(getattr(options, section))
        check_settings(section, registry.get(settings.pop("name")), settings)
    for name, settings in options.losses.items():
        check_settings(name, LOSSES.get(name), {k: v for k, v in settings.items() if k != "weight"})
    Augment(**options.augment)
    Views(**options.views)


def test_settings_of_a_tool_are_collected():
    parser = new_parser("")
    add_settings(parser)
    words = "--set files=*.png stride=2 --set val_fraction=0 --dataset.intrinsics none"
    given = flags.parse(parser, words.split())
    assert given.dataset_settings == {"files": "*.png", "stride": 2, "val_fraction": 0, "intrinsics": None}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("--dataset kitti --dataset.speed 010", "010"),
        ("--dataset ddad --dataset.speed no", False),
        ("--dataset.speed oxts", "oxts"),
        ("--dataset folder --dataset.depth_scale 010", 10.0),
        ("--dataset folder --dataset.files 2011-09-26", "2011-09-26"),
        ("--dataset folder --dataset.intrinsics NULL", None),
        ("--dataset folder --dataset.stride 1e1", 10),
    ],
)
def test_settings_of_an_evaluation_are_read_by_type(words, value):
    parser = new_parser("")
    flags.add_dataset_flags(parser)
    assert list(flags.parse(parser, words.split()).dataset_settings.values()) == [value]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--dataset folder --dataset.stride none", "dataset folder: stride is a whole number, got 'none'"),
        ("--dataset.stride two", "dataset: stride is a whole number, got 'two'"),
        ("--dataset folder --dataset.files=", "dataset folder: files needs a value, got ''"),
    ],
)
def test_settings_of_an_evaluation_of_another_type_are_refused(words, sentence):
    parser = new_parser("")
    flags.add_dataset_flags(parser)
    with pytest.raises(InputError, match=f"^{sentence}"):
        flags.parse(parser, words.split())


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--seed 010", "seed", 10),
        ("--batch_size 1e1", "batch_size", 10),
        ("--max_steps none", "max_steps", None),
        ("--optimizer none", "optimizer", None),
        ("--method bdedepth --optimizer none", "optimizer", "adamw"),
        ("--method featdepth --num_layers NONE", "num_layers", 50),
        ("--decay_epochs none", "decay_epochs", None),
        ("--models_to_load null", "models_to_load", None),
        ("--height 64.0", "height", 64),
        ("--split 010", "split", "010"),
        ("--model_name 2011-09-26", "model_name", "2011-09-26"),
        ("--max_depth inf", "max_depth", float("inf")),
        ("--num_scales 2", "scales", [0, 1]),
        ("--png --jpg", "seed", 0),
        ("--scheduler cos", "scheduler", "cosine"),
        ("--clip_grad -1", "clip_grad_norm", None),
        ("--backbone hrnet", "encoder", "hrnet18"),
        (
            "--companion cityscapes --companion.data_path x",
            "companion",
            {"name": "cityscapes", "data_path": "x"},
        ),
        ("--use_local_crop", "views", {"local_crop": True, "patch_reshuffle": False}),
    ],
)
def test_an_option_reads_unusual_words_by_its_type(words, name, value, tmp_path):
    assert getattr(parse(words.split()), name) == value


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("ground_truth none", None),
        ("ground_truth None", None),
        ("ground_truth improved", "improved"),
        ("baseline 1e-1", 0.1),
        ("baseline 010", 10.0),
        ("gt_path 2011", "2011"),
        ("gt_path 2011-09-26", "2011-09-26"),
        ("intrinsics fixed", "fixed"),
    ],
)
def test_a_setting_reads_unusual_words_by_its_type(typed, value, tmp_path):
    key, word = typed.split()
    assert parse([f"--dataset.{key}", word]).dataset[key] == value
    config = write(tmp_path / "a.yaml", f"dataset: {{name: kitti, {key}: {word}}}")
    assert parse(["--config", config]).dataset[key] == value


@pytest.mark.parametrize("typed", ["[1, 0.5]", "1 0.5", "1,.5", "[1, 5e-1]"])
def test_a_list_of_numbers_is_read_in_every_form(typed, tmp_path):
    terms = parse(["--losses.supervised_depth.scale_weights", typed]).losses
    assert terms["supervised_depth"]["scale_weights"] == [1, 0.5]


def test_a_list_of_one_element_is_that_element(tmp_path):
    config = write(tmp_path / "a.yaml", "losses: {supervised_depth: {scale_weights: 1}}")
    for words in (["--config", config], ["--losses.supervised_depth.scale_weights", "1"]):
        assert parse(words).losses["supervised_depth"]["scale_weights"] == [1]


@pytest.mark.parametrize("words", ["--dataset folder --dataset.files 87", "--config {config}"])
def test_a_number_for_a_text_setting_is_text(words, tmp_path):
    config = write(tmp_path / "a.yaml", "dataset: {name: folder, files: 87}")
    assert parse(words.format(config=config).split()).dataset["files"] == "87"


def test_configs_read_words_of_old_yaml_by_type(tmp_path):
    text = "seed: 010\nno_ssim: yes\nmodel_name: no\nmax_steps: none\nsplit: 12:30:15\n"
    options = parse(["--config", write(tmp_path / "a.yaml", text)])
    assert (options.seed, options.no_ssim, options.model_name) == (10, True, "no")
    assert (options.max_steps, options.split) == (None, "12:30:15")


def test_nested_aliases_are_refused(tmp_path):
    text = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n"
    text += "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    with pytest.raises(InputError, match=r"a\.yaml does not parse: its aliases stand for more than"):
        parse(["--config", write(tmp_path / "a.yaml", text)])


def test_the_network_has_the_size_of_its_dataset():
    assert [(o.height, o.width) for o in (parse([]), parse(["--dataset", "nyuv2"]))] == [
        (192, 640),
        (288, 384),
    ]
    options = parse(["--dataset", "nyuv2", "--height", "64"])
    assert (options.height, options.width) == (64, 384)


def test_help_is_one_line_for_each_option(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for option in OPTIONS.values():
        if option.help:
            about = [line for line in lines if option.help in line]
            assert len(about) == 1, option.name
            assert not re.match(r"(of|as|what|where|else)\b", option.help), option.help
            assert len(option.help.split()) >= 3, option.help


@pytest.mark.parametrize("name", ["../x", "/", "", "a/../../b"])
def test_the_name_of_a_run_stays_in_its_folder(name):
    with pytest.raises(InputError, match=r"--model_name must be a (name inside --log_dir|word or text), got"):
        parse(["--model_name", name])
    assert parse(["--model_name", "group/first"]).model_name == "group/first"


def test_whole_numbers_and_shares_of_a_list_stay_apart():
    known = {"crop_borders": Setting("Sequence[float] | None", None)}
    for given in ([-352, 0, 0.5, 1216], Typed("[-352, 0, 0.5, 1216]"), Typed("-352 0 0.5 1216")):
        borders = read_settings("folder", known, {"crop_borders": given})["crop_borders"]
        assert [type(number) for number in borders] == [int, int, float, int]
