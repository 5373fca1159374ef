"""Bad input through the entry that a user types: one sentence with the thing, its value and a way out."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import evaluate_depth
import evaluate_segmentation
import test_simple
from checkpoints import Checkpoint, save_checkpoint
from methods import build_method
from notices import collect_notices
from tests import runs
from tests.tiny_models import OPTIONS
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
VELOCITY = {"method": "packnet", "losses.velocity.weight": 0.1}
RAYS = {"method": "packnet", "depth_network": "ray_surface"}
SGDEPTH = {"method": "sgdepth", "encoder": "resnet18", "pose_model_type": "separate_resnet"}


@pytest.fixture
def kitti(tiny_kitti, tmp_path):
    return shutil.copytree(tiny_kitti, tmp_path / "kitti")


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "folder")


@pytest.fixture
def rig(tiny_ddad, tmp_path):
    return shutil.copytree(tiny_ddad, tmp_path / "rig")


@pytest.fixture
def city(worlds, tmp_path):
    return worlds.copy(tmp_path / "city", "cityscapes")


@pytest.fixture(scope="module")
def sgdepth(tmp_path_factory):
    torch.manual_seed(0)
    options = {**OPTIONS, "method": "sgdepth", "pose_model_type": "separate_resnet"}
    saved = tmp_path_factory.mktemp("run")
    save_checkpoint(
        saved / "checkpoints" / "last.pt", Checkpoint(build_method(options).state_dict(), options)
    )
    return saved


def rehearse(data, tmp_path, **settings):
    """The first loss terms of a run."""
    return runs.build(runs.arguments(data, tmp_path / "runs", batch_size=2, **settings)).rehearse()


def refused(data, tmp_path, words, **settings):
    """Check the sentence that a run refuses its data with."""
    with pytest.raises(InputError, match=words):
        rehearse(data, tmp_path, **settings)


# ----------------------------------------------------------------------------- speed


def rewrite_oxts(root, velocity=None, drop=None, times=None):
    for record in root.rglob("oxts/data/*.txt"):
        words = record.read_text().split()
        if velocity is not None:
            words[8:11] = [str(velocity), "0", "0"]
        record.write_text(" ".join(words))
        if drop == int(record.stem):
            record.unlink()
    for file in root.rglob("oxts/timestamps.txt"):
        file.write_text("\n".join(file.read_text().splitlines()[:times]) + "\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"velocity": 0}, r"oxts: every speed is 0; .* leave out --dataset\.speed"),
        ({"velocity": 100}, r"median speed is 100 m/s \(360 km/h\), outside 0.1 to 60 m/s; .* Convert it"),
        ({"drop": 3}, r"oxts/data has no record of frame 3; 1 of the 6 frames .* leave the drive out"),
        ({"times": 4}, r"timestamps.txt has 4 times and none of frame 5; is the file complete"),
    ],
)
def test_a_drive_with_other_speeds_is_refused_at_the_start(kitti, tmp_path, change, words):
    rewrite_oxts(kitti, **change)
    refused(kitti, tmp_path, words, **VELOCITY, **{"dataset.speed": "velocity"})


def test_a_drive_without_oxts_says_what_to_unpack(kitti, tmp_path):
    for oxts in list(kitti.rglob("oxts")):
        shutil.rmtree(oxts)
    words = r"no file .*oxts/timestamps.txt; unpack the drive's oxts .* leave out --dataset.speed"
    refused(kitti, tmp_path, words, **VELOCITY, **{"dataset.speed": "velocity"})


def test_a_drive_may_begin_at_a_standstill(kitti, tmp_path):
    for record in kitti.rglob("oxts/data/*0.txt"):
        words = record.read_text().split()
        words[8:11] = ["0", "0", "0"]
        record.write_text(" ".join(words))
    terms = rehearse(kitti, tmp_path, **VELOCITY, **{"dataset.speed": "velocity"})
    assert terms["velocity"] > 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 0), (2, 0)], "every speed is 0"),
        ([(0, 300), (2, 300)], r"median speed is 300 m/s .* Convert it to metres per second"),
        ([(0, 8), (0.5, 8)], r"covers 0 to 0.5 s and the frames 0 to 1.3 s"),
        ([(0, 8), (0.1, 8), (2, 8)], r"has a gap from 0.1 to 2 s, in which frames lie; fill it"),
        ([(0, 8), (0.1, "")], r"row 2: expected seconds and metres per second, got '0.1,'"),
        (None, r"no file .*speed.csv; write seconds and metres per second .* leave out --dataset.speed"),
    ],
)
def test_a_speed_file_that_does_not_fit_is_refused(folder, tmp_path, rows, words):
    if rows is not None:
        lines = "".join(f"{time},{speed}\n" for time, speed in rows)
        (folder / "speed.csv").write_text("seconds,metres_per_second\n" + lines)
    refused(folder, tmp_path, words, **VELOCITY, **{"dataset.speed": 10})


def test_a_rig_that_never_moves_gives_no_scale(rig, tmp_path):
    for scene in rig.glob("0*/scene_*.json"):
        record = json.loads(scene.read_text())
        for datum in record["data"]:
            pose = next(iter(datum["datum"].values()))["pose"]
            pose["translation"] = dict.fromkeys("xyz", 0.0)
        scene.write_text(json.dumps(record))
    settings = {**VELOCITY, "dataset": "ddad", "dataset.speed": "true", "dataset.camera_names": "front"}
    refused(rig, tmp_path, "recorded poses: every speed is 0; .* leave out --dataset.speed", **settings)


# ----------------------------------------------------------------------------- checkpoints and configs


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("model.depth_net.backbone.weight", "depth network is not one of PackNet01, .* are backbone.weight"),
        ("network.backbone.weight", "holds the entries epoch, state_dict, which is not a known layout"),
    ],
)
def test_a_ckpt_of_an_unknown_network_is_refused(tiny_folder, tmp_path, key, words):
    path = tmp_path / "epoch=1.ckpt"
    torch.save({"epoch": 1, "state_dict": {key: torch.zeros(3, 3)}}, path)
    image = str(next(tiny_folder.glob("*.png")))
    with pytest.raises(InputError, match=words):
        test_simple.main(["--load_weights_folder", str(path), "--image_path", image])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model": {"loss": {"num_scale": 4}}},
            "no option 'model.loss.num_scale'; did you mean 'model.loss.num",
        ),
        ({"modle": {"name": ""}, "arch": {"seed": 1}}, "no option 'modle.name'; did you mean 'model.name'"),
        ({"learning_rat": 1}, "unknown option 'learning_rat'; did you mean 'learning_rate'"),
        ({"losses": {"velocity": {"wieght": 1}}}, "no setting 'wieght'; did you mean 'weight'"),
    ],
)
def test_an_unknown_key_of_a_config_gets_the_nearest(tiny_kitti, tmp_path, config, words):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    refused(tiny_kitti, tmp_path, words, config=path)


def test_a_ray_template_of_another_size_names_the_command(folder, tmp_path):
    rays = np.zeros((60, 90, 3), np.float32)
    rays[..., 2] = 1
    np.save(folder / "rays.npy", rays)
    (folder / "camera.yaml").write_text("model: ray_surface\nrays: rays.npy\n")
    words = (
        r"camera.yaml: the template has 90x60 rays and the images are 96x64; type python "
        r"tools/ray_template.py "
        r"--camera .*camera.yaml --native 60 90 --height 64 --width 96"
    )
    refused(folder, tmp_path, words, **RAYS)


# ----------------------------------------------------------------------------- pseudo-depth, folders, masks


def test_constant_pseudo_depth_is_named_once(folder, tmp_path):
    (folder / "pseudo_depth").mkdir()
    for image in folder.glob("*.png"):
        Image.fromarray(np.full((64, 96), 700, np.uint16)).save(folder / "pseudo_depth" / image.name)
    settings = {**SGDEPTH, "method": "sc_depth", "method.version": "v3", "dataset.pseudo_depth": "true"}
    with collect_notices() as said:
        trainer = runs.build(runs.arguments(folder, tmp_path / "runs", batch_size=2, **settings))
        for index in range(len(trainer.train_set)):
            trainer.train_set[index]
    constant = [sentence for sentence in said if "png is constant (700); its pseudo-depth," in sentence]
    assert len(constant) == 1 and "delete such files" in constant[0]


def test_a_list_without_a_final_newline_is_whole(folder, tmp_path):
    for scene in ("a", "b"):
        shutil.copytree(folder, tmp_path / "scenes" / scene)
    (tmp_path / "scenes/train.txt").write_text("a\nb")
    (tmp_path / "scenes/val.txt").write_text("b")
    trainer = runs.build(runs.arguments(tmp_path / "scenes", tmp_path / "runs"))
    assert len(trainer.train_set) == 2 * 12


def moving_masks(root, folder, colour):
    for image in root.glob("*/*/image_02/data/*.png"):
        path = folder / image.relative_to(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((64, 96, 3), np.uint8)
        mask[20:40] = (10, 20, 30)
        Image.fromarray(mask).save(path)
    (folder / "dynamic_colors.txt").write_text(colour)


@pytest.mark.parametrize(
    ("colours", "words"),
    [
        ("30 20 10\n", r"no mask in .* has a colour of .*dynamic_colors.txt \(30 20 10\); are they R G B"),
        ("", "dynamic_colors.txt lists no colour; write 'R G B'"),
        ("10 20\n", "line 1: expected 'R G B', three numbers to 255, got '10 20'"),
    ],
)
def test_mask_colours_that_match_nothing_are_refused(kitti, sgdepth, tmp_path, colours, words):
    moving_masks(kitti, tmp_path / "masks", colours)
    line = f"--run {sgdepth} --data_path {kitti} --eval_split {kitti}/splits --device cpu --num_workers 0"
    line += f" --details regions --moving_masks {tmp_path / 'masks'} --output {tmp_path / 'out'}"
    with pytest.raises(InputError, match=words):
        evaluate_depth.main(line.split())


# ----------------------------------------------------------------------------- labels


def companion(city):
    own = {"name": "cityscapes", "data_path": city, "split": "fine", "labels": "true", "top_rows": 1}
    return {**SGDEPTH, **{f"companion.{key}": value for key, value in own.items()}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ids: np.where(ids == ids.max(), 77, ids), r"labelIds.png: 77 is not a label of Cityscapes"),
        (lambda ids: ids[:32], r"labelIds.png is 96x32 and its image .* is 96x64; both must have one size"),
        (
            lambda ids: np.stack([ids] * 3, -1),
            r"labelIds.png holds no ids: .* \(64, 96, 3\); are these the col",
        ),
    ],
)
def test_label_files_that_do_not_fit_are_named(tiny_kitti, city, tmp_path, change, words):
    for path in city.rglob("gtFine/train/**/*labelIds.png"):
        ids = np.array(Image.open(path))
        Image.fromarray(change(ids).astype(np.uint8)).save(path)
    refused(tiny_kitti, tmp_path, words, **companion(city))


def test_a_companion_smaller_than_a_batch_is_shown_again(tiny_kitti, city, tmp_path):
    words = "companion cityscapes has 1 samples and --batch_size is 4, so each batch shows some of them twice"
    with collect_notices() as said:
        trainer = runs.train(
            runs.arguments(tiny_kitti, tmp_path / "runs", batch_size=4, max_steps=1, **companion(city))
        )
    assert trainer.progress.step == 1 and words in " ".join(said)


def labelled(root, ids):
    (root / "labels.yaml").write_text(
        yaml.safe_dump({"classes": "cityscapes", "ids": {7: "road", 26: "car", 0: "ignored"}})
    )
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(root / "images/val/a.png")
    Image.fromarray(ids.astype(np.uint8)).save(root / "labels/val/a.png")
    return root


def evaluate_labels(run, root, tmp_path):
    line = f"--run {run} --dataset label_folder --data_path {root} --output {tmp_path / 'out'} --device cpu"
    evaluate_segmentation.main(f"{line} --num_workers 0".split())


def test_mean_iou_says_over_which_classes_it_is_taken(sgdepth, tmp_path, capsys):
    ids = np.full((64, 96), 7)
    ids[:, 48:] = 26
    (tmp_path / "data").mkdir()
    evaluate_labels(sgdepth, labelled(tmp_path / "data", ids), tmp_path)
    words = json.loads((tmp_path / "out/results.json").read_text())["mean_iou_over"]
    assert words in capsys.readouterr().out
    count, absent = re.match(r"(\d+) of 19 classes; neither labelled nor predicted: ([^;]*)", words).groups()
    assert int(count) + len(absent.split(", ")) == 19
    assert "road" not in absent.split(", ") and "car" not in absent.split(", ")


def test_labels_that_are_all_ignored_give_no_mean_iou(sgdepth, tmp_path):
    (tmp_path / "data").mkdir()
    root = labelled(tmp_path / "data", np.zeros((64, 96)))
    with pytest.raises(InputError, match="no pixel of the 1 images of part 'val' has a class"):
        evaluate_labels(sgdepth, root, tmp_path)
    assert not (tmp_path / "out/results.json").exists()
