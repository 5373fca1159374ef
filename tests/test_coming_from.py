"""docs/coming-from.md is true: every row has an answer, its command runs, and its flags and tools exist.

Each command is typed in a folder that holds small drawn data under the names of the page, the published
repository's files as `their/`, and our configs. It runs with sizes and numbers of steps that end in seconds.
torchrun's commands run in one process, on the CPU; tests/test_distributed.py has several.
"""

import importlib
import re
import shutil

import pytest

import evaluate_depth
import options
import test_simple
from checkpoints import load_checkpoint, save_checkpoint, write_packnet
from checkpoints import packnet as packnet_files
from checkpoints._record import Checkpoint
from methods import build_method
from networks import packnet, packnet_san
from networks._packing import Sizes
from tests.coming_from import ANSWERED, ROWS, TEXT, Row, code, split_command
from tests.published_files import CONFIGS, WEIGHTS, featdepth, hrnet_imagenet, write_repository
from tests.published_world import World
from tests.s3 import s3_server
from utils import PROJECT

pytestmark = pytest.mark.usefixtures("one_thread")

SCRIPTS = (
    "evaluate_depth",
    "evaluate_pose",
    "evaluate_segmentation",
    "test_simple",
    "test_video",
    "tools.export_gt_depth",
    "tools.select_frames",
    "tools.pseudo_depth",
)
PACKNET = "PackNet-SfM and All4Depth"
SIZE = "--height 64 --width 96"
PREDICT = f"{SIZE} --device cpu --batch_size 2"
TRAIN = (
    f"{SIZE} --batch_size 2 --max_steps 2 --num_val 1 --num_workers 0 --device cpu --weights_init scratch "
    "--keep_checkpoints 1"
)
SMALL = {  # script → what is typed after a command so that it ends in seconds
    "run.py": TRAIN,
    "evaluate_depth.py": f"{PREDICT} --num_workers 0 --output OUT --skip_missing",
    "evaluate_pose.py": f"{PREDICT} --num_workers 0 --output OUT",
    "evaluate_segmentation.py": f"{PREDICT} --num_workers 0 --output OUT",
    "test_simple.py": f"{PREDICT} --output OUT",
    "test_video.py": f"{PREDICT} --output OUT/video.gif",
    "tools/export_gt_depth.py": "--workers 1 --skip_missing",
    "tools/make_masks.py": "--workers 1 --min_frames 2 --overwrite",
    "tools/prepare_cityscapes.py": "--workers 1",
    "tools/pseudo_depth.py": f"{PREDICT} --workers 1",
    "tools/ray_template.py": "",
    "tools/select_frames.py": "--workers 1 --overwrite",
    "tools/sift_matches.py": "--workers 1",
    "benchmarks.step": f"{SIZE} --batch_size 1 --steps 1",
}
WRITES = {  # script → what it leaves
    "run.py": "runs/*/checkpoints/last.pt",
    "evaluate_depth.py": "OUT/**/results.json",
    "evaluate_pose.py": "OUT/**/metrics.json",
    "evaluate_segmentation.py": "OUT/**/results.json",
    "test_simple.py": "OUT/**/*.png",
    "test_video.py": "OUT/video.gif",
    "tools/export_gt_depth.py": "*/gt_depths/*.npz",
    "tools/make_masks.py": "DDAD/masks/**/*.png",
    "tools/prepare_cityscapes.py": "OUT/**/*.jpg",
    "tools/pseudo_depth.py": "IMAGES/leres_depth/*.png",
    "tools/ray_template.py": "OUT/rays.npy",
    "tools/select_frames.py": "SCENES/training/*/frame_index.yaml",
    "tools/sift_matches.py": "*/matches/**/*.npy",
}
NETWORKS = {  # system → networks that take no time, for commands that load no weights
    "Monodepth2": "--encoder timm/test_efficientnet --pose_model_type posecnn",
    "BDEdepth": "--encoder timm/test_efficientnet --pose_model_type posecnn",
    "SurroundDepth": "--encoder timm/test_convnext --pose_encoder timm/test_convnext --method.blocks 1",
    "SC-Depth": "--encoder timm/test_efficientnet --pose_encoder timm/test_efficientnet",
}
COMPANION = [
    *("--companion.height", "96", "--companion.width", "160"),
    *("--augment.companion", "{jitter: 1.0, crop: {height: 64, width: 96, shrink: 1.2}}"),
]
LOADED = {  # system → the published file that stands for WEIGHTS
    "Monodepth2": "mono+stereo_640x192",
    "BDEdepth": "ckpt.pth",
    "SurroundDepth": "ddad",
    "SGDepth": "epoch_20",
    "SC-Depth": "kitti_scv1",
}
NOT_WEIGHTS = {  # system → files in its table of weights that hold no depth network
    "BDEdepth": ["HRNet_W18_C_cosinelr_cutmix_300epoch.pth.tar"],
    "PackNet-SfM and All4Depth": ["omnicam_ray_template.npy"],
}
TINY = Sizes((16,) * 6, depth=4)  # of a PackNet: its 128 million parameters would take minutes


@pytest.fixture(scope="module")
def world(worlds, tiny_kitti, tiny_ddad, tiny_folder, tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp("world")
    yield World(root, worlds, KITTI=tiny_kitti, DDAD=tiny_ddad, IMAGES=tiny_folder)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """System → folder with the files of its repository."""
    made = {}

    def get(system: str):
        if system not in made:
            made[system] = tmp_path_factory.mktemp("their")
            write_repository(made[system], system)
        return made[system]

    return get


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder that commands are typed in; it is removed, since checkpoints are large."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.chdir(PROJECT)
    shutil.rmtree(tmp_path)


@pytest.fixture
def bucket(monkeypatch):
    """A local S3 server with the bucket `runs`."""
    with s3_server(monkeypatch) as server:
        yield server


@pytest.fixture
def tiny_packnets(monkeypatch):
    """PackNets of 16 channels, also in files of the published layout."""
    for cls in (packnet.PackNet, packnet.PackNetSlim):
        monkeypatch.setattr(cls, "sizes", TINY)
    monkeypatch.setattr(packnet_san, "SLIM", TINY)
    monkeypatch.setattr(packnet_files, "_WIDTHS", {16: "packnet"})
    monkeypatch.setattr(packnet_files, "_VERSIONS", {32: "1A"})


def write_tiny_packnet(path):
    """A published file of the tiny PackNet01 with its pose network."""
    settings = {"method": "packnet", "depth_network": {"name": "packnet"}, "height": 64, "width": 96}
    settings |= {"weights_init": "scratch", "min_depth": 0.5, "max_depth": float("inf")}
    settings |= {"pose_model_type": "packnet_pose"}
    write_packnet(path, Checkpoint(build_method(settings).state_dict(), settings))


def write_tiny_run(path, words: list[str]):
    """A run folder of the network that a command trains; SurroundDepth's own has 80 million parameters."""
    settings = options.effective(options.parse(words))
    weights = build_method(settings).state_dict()
    save_checkpoint(path / "checkpoints/last.pt", Checkpoint(weights, settings))


def lay_out(desk, row: Row, script: str, words: list[str], world: World, their) -> None:
    """Put what a command names into the folder it is typed in; nothing that it is to write is there."""
    (desk / "configs").symlink_to(PROJECT / "configs")
    (desk / "their").symlink_to(their)
    (desk / "models").symlink_to(their / "models")
    (desk / "OUT").mkdir()
    for name in {name for word in words for name in re.findall(r"[A-Z][A-Z0-9_]{3,}", word)}:
        if name == "WEIGHTS" and not (row.system == "SurroundDepth" and "run.py" in row.ours):
            lay_weights(desk / name, row, words, their)
        elif name == "DEPTHS" and row.system == PACKNET:
            (desk / name).symlink_to(world.get("EIGEN_DEPTHS"))
        elif hasattr(world, name.lower()) and script.startswith("tools/"):
            shutil.copytree(world.get(name), desk / name)  # it writes next to the data
        elif hasattr(world, name.lower()):
            (desk / name).symlink_to(world.get(name))
    if "pretrained" in words:
        hrnet_imagenet(desk)
    if script.startswith("tools/"):
        for path in list(desk.glob(WRITES[script])):
            path.unlink()


def lay_weights(place, row: Row, words: list[str], their) -> None:
    """The published file or folder that stands for WEIGHTS in a command."""
    if row.system == PACKNET:
        write_tiny_packnet(place)
    elif row.system == "FeatDepth":
        if "extractor" in words:
            case = "autoencoder_step"
        else:
            case = "mono_fm_joint_loss" if "joint" in " ".join(words) else "mono_fm_loss"
        featdepth(case)(place)
    else:
        place.symlink_to(their / WEIGHTS[row.system][LOADED[row.system]][0])


def shortened(row: Row, script: str, words: list[str]) -> list[str]:
    """The words of a command with those that make it end in seconds."""
    words = [*words, *SMALL[script].split()]
    if script == "tools/export_gt_depth.py" and "KITTI" not in words:
        words.remove("--skip_missing")
    if "--ply" in words and script == "test_video.py":
        words += ["--ply_agree", "1", "--ply_tolerance", "100"]
    if script != "run.py":
        return words
    words = [word for word in words if word != "--sync_batchnorm"]  # it needs GPUs
    if "CITYSCAPES_SMALL" in words:
        words += ["--skip_missing"]
    if "--split" not in words:
        words += [
            word
            for name in ("KITTI", "KITTI_ODOMETRY")
            if name in words
            for word in ("--split", f"{name}/splits")
        ]
    if any("packnet_san_kitti" in word for word in words):
        words += ["--dataset.crop_borders", "[-56, 0, 0.5, 80]"]  # the published window is larger than images
    if {"DDAD", "NUSCENES", "OMNICAM"} & set(words):
        words += ["--batch_size", "1"]
    if "pretrained" in words:
        place = words.index("scratch") - 1
        return [*words[:place], *words[place + 2 :], "--pose_model_type", "posecnn"]
    loads = "WEIGHTS" in words or row.table == "Weights"
    if not loads and "50" not in words:
        words += NETWORKS.get(row.system, "").split()
    if row.system == "SGDepth" and "CITYSCAPES" in words:
        words += COMPANION
    if row.system == "FeatDepth" and row.table != "Weights":  # its published files have 50 layers
        words += ["--num_layers", "18"]
        if "configs/featdepth_kitti_autoencoder.yaml" not in words:
            words += ["--method.extractor_layers", "18", "--method.pose_size", "null"]
    return words


def written(script: str, words: list[str]) -> str:
    """Pattern of the files that a command leaves."""
    if "--no_eval" in words:
        return "OUT/disps_*.npy"
    return "OUT/benchmark_predictions/*.png" if "benchmark" in words else WRITES[script]


def evaluate_and_predict(desk, words: list[str], world: World) -> None:
    """The run of a YAML file predicts an image and, if its data have ground truth, is evaluated."""
    run = next(desk.glob("runs/*"))
    (desk / "IMAGE").symlink_to(world.get("IMAGE"))
    given = ["--run", str(run), "--image_path", "IMAGE", *SMALL["test_simple.py"].split()]
    test_simple.main(given)
    assert list(desk.glob(WRITES["test_simple.py"]))
    data = words[words.index("--data_path") + 1]
    if data != "OMNICAM":
        given = ["--run", str(run), "--data_path", data, *SMALL["evaluate_depth.py"].split()]
        evaluate_depth.main(given)
        assert list(desk.glob(WRITES["evaluate_depth.py"]))


RUN = [
    pytest.param(row, command, id=f"{row.system.split('-')[0]}: {command[:100]}")
    for row in ANSWERED
    for command in row.commands
]


@pytest.mark.parametrize(("row", "command"), RUN)
def test_the_command_of_a_row_runs(row, command, desk, world, repositories, request, capsys, monkeypatch):
    if row.system == PACKNET and row.table != "Weights":
        request.getfixturevalue("tiny_packnets")
    script, words = split_command(command)
    lay_out(desk, row, script, words, world, repositories(row.system))
    words = shortened(row, script, words)
    if row.system == "SurroundDepth" and "--load_weights_folder=WEIGHTS" in words:
        write_tiny_run(desk / "WEIGHTS", words)
    mirror = next((word for word in words if word.startswith("s3://")), None)
    server = request.getfixturevalue("bucket") if mirror else None
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    if script.startswith("benchmarks."):
        monkeypatch.setattr("sys.argv", [script, *words])
        return module.main()
    module.main(words)
    assert list(desk.glob(written(script, words))), sorted(desk.rglob("*"))
    if mirror:
        assert any(name.endswith("checkpoints/last.pt") for name in server.names(mirror.split("/", 3)[3]))
    if (row.system, row.table, script) == (PACKNET, "Config files", "run.py"):
        evaluate_and_predict(desk, words, world)


def test_every_row_has_an_answer():
    for row in ANSWERED:
        assert row.commands or row.without, row
        assert not (row.commands and row.without), row
        if row.without:
            sentence = row.ours.rstrip(".")
            assert row.ours.endswith(".") and len(sentence.split()) > 4 and ". " not in sentence, row
    systems = {row.system for row in ANSWERED}
    assert systems == {*WEIGHTS}
    assert len(RUN) > 130 and sum(row.as_written for row in ANSWERED) >= 15
    assert {split_command(command.values[1])[0] for command in RUN} == {*SMALL}


@pytest.mark.parametrize("system", WEIGHTS)
def test_every_weight_file_has_a_row_and_is_read(system, repositories):
    rows = [row for row in ANSWERED if (row.system, row.table) == (system, "Weights")]
    named = [name for row in rows for name in row.names]
    assert {*named} == {*WEIGHTS[system], *NOT_WEIGHTS.get(system, ())}
    their = repositories(system)
    layouts = set()
    for place, _ in WEIGHTS[system].values():
        if "exp_pose" in place:
            assert (their / place).is_file()  # read together with the depth network
        checkpoint = load_checkpoint(their / place)
        assert any(key.startswith(("depth.", "image_decoder.")) for key in checkpoint.weights), place
        layouts.add(checkpoint.layout)
    assert len(layouts) == 1


@pytest.mark.parametrize("system", CONFIGS)
def test_every_config_file_has_a_row(system):
    rows = [row for row in ANSWERED if (row.system, row.table) == (system, "Config files")]
    named = [name for row in rows for name in row.names]
    assert {*named} == {*CONFIGS[system]} and len(named) == len({*named})


def ours() -> list[str]:
    """The code in what stands for us: the second column, and the first where it goes on working."""
    kept = ("the same", "accepted")
    return [
        text
        for row in ROWS
        for cell in ((row.theirs, row.ours) if row.ours.startswith(kept) else (row.ours,))
        for text in code(cell)
    ]


def test_every_flag_that_is_named_exists(capsys):
    known = set(options.build_parser()._option_string_actions)
    for name in SCRIPTS:
        module = importlib.import_module(name)
        with pytest.raises(SystemExit):
            module.main(["--help"])
        known |= set(re.findall(r"--\w+", capsys.readouterr().out))
        if hasattr(module, "build_parser"):  # older names, too, which the help leaves out
            known |= set(module.build_parser()._option_string_actions)
    commands = {command for row in ANSWERED for command in row.commands}  # these run
    named = {flag for text in ours() for flag in re.findall(r"(?<!\S)--[\w.]+", text) if text not in commands}
    sections = {flag for flag in named if flag[2:].partition(".")[0] in options.SECTIONS}
    assert len(named) > 80 and sections
    assert not named - sections - known - {"--nproc_per_node"}  # torchrun's


def test_every_tool_config_and_page_that_is_named_is_there():
    tools = [path for text in ours() for path in re.findall(r"tools/\w+\.py", text)]
    configs = [path for text in ours() for path in re.findall(r"(?<!their/)configs/[\w*]+\.yaml", text)]
    assert tools and configs
    for path in {*tools, *configs}:
        assert list(PROJECT.glob(path)), path
    for page in re.findall(r"\]\((\w+\.md)", TEXT):
        assert (PROJECT / "docs" / page).is_file(), page
