"""Ego masks: the vehicle is found in its images, and nothing else is taken for it."""

import copy
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets import build_dataset
from datasets.ddad import CAMERAS, Ddad
from datasets.synthetic import World
from tools import make_masks
from tools._ego_mask import find_ego_mask
from tools.layouts._base import Plan
from tools.layouts._rig import SurroundRig
from tools.make_synthetic import make
from utils import InputError

RIG = SurroundRig(64, 96)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("masks") / "out"
    make(Plan("ddad", out, sequences=2, frames=8, height=64, width=96, seed=0, ext="png"))
    return out


@pytest.fixture(scope="module")
def side() -> np.ndarray:
    """(T, 64, 96, 3): a drive as the rear left camera sees it."""
    world = World(3, 1.2)
    return np.stack([RIG.view(world, 2, time / 10).image for time in range(12)])


def run(root, *more):
    make_masks.main(
        ["--data_path", str(root), "--part", "train", "val", "--workers", "1", "--min_frames", "6", *more]
    )


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    return (found & true).sum() / (found | true).sum()


def test_each_cameras_own_vehicle_is_found(root, capsys):
    run(root)
    assert "wrote 12 masks" in capsys.readouterr().out
    for scene in ("000000", "000001"):
        for number, camera in enumerate(CAMERAS.values()):
            mask = np.array(Image.open(root / f"masks/{camera}/{scene}.png"))
            assert mask.shape == (64, 96) and set(np.unique(mask)) <= {0, 255}
            assert (root / f"masks/{camera}/{scene}.overlay.jpg").is_file()
            true = RIG.own_vehicle(number)
            if true.any():
                assert overlap(mask > 0, true) > 0.9, (scene, camera)
            else:
                assert not mask.any(), (scene, camera)
    visible = ~Ddad(root, height=64, width=96, masks=True)[0].maps["ego_mask"]
    assert visible.shape == (6, 1, 64, 96) and visible[0].all() and not visible[1].all()


def test_existing_masks_are_kept_and_said(root, capsys):
    run(root)
    path = root / "masks/CAMERA_05/000000.png"
    path.unlink()
    capsys.readouterr()
    run(root)
    said = capsys.readouterr().out
    assert "wrote 1 masks" in said and path.is_file()
    assert "11 masks were there already and are kept; --overwrite makes them again" in said
    assert "made from other" not in said


def test_masks_of_other_settings_or_images_are_named(root, tmp_path, capsys):
    data = shutil.copytree(root, tmp_path / "data")
    run(data, "--overwrite")
    capsys.readouterr()
    run(data, "--pool")
    said = capsys.readouterr().out
    assert "wrote 0 masks" in said and "--overwrite" in said
    assert (
        "12 of these were made from other images or settings" in said and "pool was false and is true" in said
    )
    image = sorted((data / "000000/rgb/CAMERA_05").iterdir())[3]
    Image.new("RGB", (96, 64)).save(image)
    run(data)
    assert f"1 of these were made from other images or settings, such as {data}/masks/CAMERA_05" in (
        capsys.readouterr().out
    )
    with pytest.raises(
        InputError, match=r"was made from other data: 000000/rgb.* run tools/make_masks\.py with"
    ):
        Ddad(data, height=64, width=96, masks=True)
    run(data, "--overwrite")
    Ddad(data, height=64, width=96, masks=True)


def test_mask_edited_by_hand_is_kept_without_a_word(root, tmp_path, capsys):
    data = shutil.copytree(root, tmp_path / "data")
    run(data, "--overwrite")
    for path in data.glob("masks/*/*.png"):
        Image.fromarray(np.array(Image.open(path))).save(path)  # an editor drops the text
    capsys.readouterr()
    run(data, "--pool")
    assert "made from other" not in capsys.readouterr().out


def test_shards_share_the_work(root, capsys):
    for shard in ("1/2", "2/2"):
        run(root, "--overwrite", "--shard", shard)
    assert capsys.readouterr().out.count("wrote 6 masks") == 2


def test_masks_go_to_the_given_folder(root, tmp_path):
    run(root, "--set", f"masks={tmp_path / 'masks'}")
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 12
    assert Ddad(root, height=64, width=96, masks=tmp_path / "masks")[0].maps["ego_mask"].logical_not().any()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"png cannot be written: "):
        run(root, "--set", f"masks={tmp_path / 'file'}")


@pytest.mark.parametrize("flag", ["width", "frames", "min_frames", "workers"])
def test_counts_of_nothing_are_refused(root, flag):
    with pytest.raises(InputError, match=f"--{flag} must be at least 1, got 0"):
        run(root, f"--{flag}", "0")


def test_pool_uses_recordings_of_one_calibration_together(root, capsys):
    """Both scenes here share a calibration."""
    lists = root / "lists"
    lists.mkdir()
    stamps = [
        path.stem for scene in ("000000", "000001") for path in (root / scene / "rgb/CAMERA_05").iterdir()
    ]
    (lists / "train.txt").write_text("\n".join(stamps))
    run(root, "--split", str(lists), "--pool", "--overwrite", "--part", "train")
    assert "wrote 12 masks" in capsys.readouterr().out
    masks = [np.array(Image.open(root / f"masks/CAMERA_07/00000{n}.png")) > 0 for n in (0, 1)]
    assert np.array_equal(*masks) and overlap(masks[0], RIG.own_vehicle(2)) > 0.9


def test_mirroring_paint_is_found_inside_its_dull_rim(side):
    true = RIG.own_vehicle(2)
    rim = true & ~(np.roll(true, 2, 0) & true)
    mirrored = side.copy()
    for frame, plain in zip(mirrored, side):
        frame[true] = plain[::-1][true] // 2
        frame[rim] = 20
    assert overlap(find_ego_mask(mirrored), true) > 0.9


def test_lasting_outline_of_many_recordings_is_enough():
    """Drawn places without anything in common, mirrored by the vehicle at two fifths of their brightness."""
    rng, true = np.random.default_rng(0), RIG.own_vehicle(2)
    places = []
    for _ in range(16):
        octaves = [rng.normal(0, k, (64 // k + 2, 96 // k + 2, 3)).astype(np.float32) for k in (2, 8, 32)]
        drawn = sum(cv2.resize(octave, (96, 64), interpolation=cv2.INTER_CUBIC) for octave in octaves)
        places.append(np.clip(120 + 2.2 * drawn, 0, 255))
    mirrored = [np.where(true[..., None], 0.4 * place[::-1], place) for place in places]
    assert overlap(find_ego_mask(np.uint8(mirrored), outlines=True), true) > 0.85
    assert not find_ego_mask(np.uint8(mirrored)).any()
    assert not find_ego_mask(np.uint8(places), outlines=True).any()


def test_noise_does_not_hide_the_vehicle(side):
    noise = np.random.default_rng(0).normal(0, 1, side.shape)
    noisy = np.clip(side + noise, 0, 255).astype(np.uint8)
    assert overlap(find_ego_mask(noisy), RIG.own_vehicle(2)) > 0.8


def test_blank_sky_and_road_are_not_the_vehicle():
    rng = np.random.default_rng(0)
    frames = rng.integers(60, 200, (20, 60, 90, 3), dtype=np.uint8)
    frames[:, :25] = 230  # the sky, still and bright
    fade = np.linspace(0, 1, 15)[:, None, None]  # a road that is blank near by and ends nowhere
    frames[:, 45:] = (110 + (frames[:, 45:] - 110.0) * 0.3 * (1 - fade) ** 2).astype(np.uint8)
    assert not find_ego_mask(frames).any()


def test_standing_vehicle_is_named_and_others_are_made(root, capsys):
    parked = sorted((root / "000000/rgb/CAMERA_09").iterdir())
    kept = [path.read_bytes() for path in parked]
    for path in parked:
        path.write_bytes(kept[0])
    words = r"1 masks could not be made. back, .*CAMERA_09: 1 frames differ .* --min_frames 6; --pool"
    with pytest.raises(InputError, match=words):
        run(root, "--overwrite")
    assert "wrote 11 masks" in capsys.readouterr().out
    for path, content in zip(parked, kept):
        path.write_bytes(content)


def test_dataset_with_one_camera_is_refused(tmp_path):
    for frame in range(12):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{frame}.png")
    (tmp_path / "cam.txt").write_text("60 60 32 32")
    with pytest.raises(InputError, match="folder is not a rig of cameras"):
        run(tmp_path, "--dataset", "folder")


def test_scene_name_cannot_lead_outside_of_the_mask_folder(root, tmp_path):
    rig = Ddad(root, height=64, width=96)
    rig.scenes[0] = SimpleNamespace(**{**vars(rig.scenes[0]), "name": "../../../../outside/evil0"})
    with pytest.raises(InputError, match=r"the name '.*evil0\.png' leads out of .*masks/CAMERA_01"):
        rig.mask_path(rig.samples[0], 0)


def test_nuscenes_scene_name_cannot_lead_outside(worlds, tmp_path):
    data = worlds.copy(tmp_path / "nuscenes", "nuscenes", frames=4)  # an index of the tables is written there
    rig = build_dataset({"dataset": "nuscenes", "data_path": data}, part="train", frame_ids=(0,))
    sample = copy.copy(rig.samples[0])
    object.__setattr__(sample, "scene", "../../../../outside/evil0")
    with pytest.raises(InputError, match=r"the name '.*evil0\.png' leads out of .*CAM_FRONT"):
        rig.mask_path(sample, 0)
