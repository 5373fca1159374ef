"""A run as a whole: what it leaves behind, how it goes on, and what stops it."""

import errno
import math
import multiprocessing
import os
import re
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from torch import nn

from checkpoints import load_checkpoint
from datasets.image_files import read_image
from logs import RunLog
from tests import runs
from trainer import Trainer
from training.computing import Form, apply_form
from training.finite import MAX_NOT_FINITE
from utils import InputError, read_yaml

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_same(ours, theirs, where="checkpoint"):
    """Equal to the bit, all the way down."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for n, (one, other) in enumerate(zip(ours, theirs)):
            assert_same(one, other, f"{where}[{n}]")
    else:
        assert ours == theirs, where


# What a run leaves.


@pytest.mark.parametrize("world", ["tiny_kitti", "tiny_folder"])
def test_a_run_leaves_checkpoints_scalars_images_and_its_options(world, request, tmp_path):
    words = runs.arguments(request.getfixturevalue(world), tmp_path, num_epochs=1, max_steps=2)
    trainer = runs.train(words)
    folder = tmp_path / "run"
    goal = "abs_rel" if world == "tiny_kitti" else "loss"

    for name in ("best", "last"):
        checkpoint = load_checkpoint(folder, which=name)
        assert_same(checkpoint.weights, dict(trainer.method.state_dict()))
        assert checkpoint.training["metrics"][goal] == trainer.best.value
        assert checkpoint.training["step"] == 2
    first, second, validation = runs.records(tmp_path)
    assert (first["step"], second["step"], validation["step"]) == (1, 2, 2)
    assert first["loss"] == pytest.approx(first["photometric"] + first["smoothness"])
    assert math.isfinite(validation[f"val/{goal}"])
    options = read_yaml((folder / "options.yaml").read_text())
    assert options == trainer.settings and options["encoder"] == "timm/test_efficientnet"
    assert "torch" in (folder / "revision.txt").read_text()
    board = EventAccumulator(str(folder / "tensorboard")).Reload().Tags()
    assert {"train/loss", "train/learning_rate", f"val/{goal}"} <= set(board["scalars"])
    shown = "val/image | inverse_depth" + (" | ground_truth" if world == "tiny_kitti" else "")
    assert board["images"] == ["target | disparity | warped_-1 | warped_1 | automask", shown]


def test_a_cloud_is_logged_as_seen_from_behind_the_vehicle(tmp_path):
    ahead_left_up = np.array([[30.0, 20.0, 10.0]], np.float32)
    with RunLog(tmp_path, {}, total_steps=1, step=0, active=True) as log:
        log.clouds(1, {"cloud": (ahead_left_up, np.array([[255, 0, 0]], np.uint8))})
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (vertex,) = board.Tensors("cloud_VERTEX")
    assert vertex.step == 1
    # TensorBoard: x right, y up, z towards who looks.
    assert make_ndarray(vertex.tensor_proto).tolist() == [[[-20, 10, -30]]]
    assert make_ndarray(board.Tensors("cloud_COLOR")[0].tensor_proto).tolist() == [[[255, 0, 0]]]


def test_a_best_of_another_metric_is_forgotten(tiny_folder, tmp_path):
    """A folder that gets ground truth between two runs: a loss is never compared with an abs_rel."""
    data = shutil.copytree(tiny_folder, tmp_path / "data")
    words = runs.arguments(data, tmp_path, batch_size=4, num_epochs=1)
    assert runs.train(words).best.metric == "loss"
    (data / "depth").mkdir()
    for path in sorted(data.glob("*.png")):
        with Image.open(path) as image:
            np.save(data / "depth" / f"{path.stem}.npy", np.full(image.size[::-1], 7.0, np.float32))
    best = runs.train([*words[:-2], "--num_epochs", "2", "--resume", "auto"]).best
    assert best.metric == "abs_rel" and best.protocol != "loss"
    assert load_checkpoint(tmp_path / "run", which="best").training["epoch"] == 2


def test_ground_truth_of_only_some_frames_is_found(tiny_folder, tmp_path):
    data = shutil.copytree(tiny_folder, tmp_path / "data")
    (data / "depth").mkdir()
    last = sorted(data.glob("*.png"))[-2]
    with Image.open(last) as image:
        np.save(data / "depth" / f"{last.stem}.npy", np.full(image.size[::-1], 7.0, np.float32))
    trainer = runs.build(runs.arguments(data, tmp_path, batch_size=2))
    assert trainer.validation.has_ground_truth


def test_best_stays_the_epoch_with_the_least_error(tiny_kitti, tmp_path, monkeypatch):
    scores = iter([0.3, 0.2, 0.4])
    monkeypatch.setattr(Trainer, "validate", lambda self: {"abs_rel": next(scores)})
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=16, num_epochs=3, keep_checkpoints=1)
    runs.train(words)
    folder = tmp_path / "run"
    assert load_checkpoint(folder, which="best").training["epoch"] == 2
    assert load_checkpoint(folder, which="last").training["epoch"] == 3
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["best.pt", "epoch_0003.pt", "last.pt"]


def epochs_kept(log_dir):
    return [int(path.stem[6:]) for path in sorted((log_dir / "run/checkpoints").glob("epoch_*"))]


@pytest.mark.parametrize(
    ("monitor", "scores", "kept", "best"),
    [
        ("abs_rel", [0.3, 0.1, 0.4, 0.2, 0.5, 0.6], [2, 4, 6], 2),
        ("a1", [0.3, 0.1, 0.4, 0.2, 0.5, float("nan")], [3, 5, 6], 5),  # higher is better
        ("abs_rel", [0.3, 0.3, 0.3, 0.3, 0.2, 0.3], [1, 5, 6], 5),  # of equal ones the earlier
    ],
)
def test_the_best_epochs_are_kept(tiny_kitti, tmp_path, monkeypatch, monitor, scores, kept, best):
    left = iter(scores)
    monkeypatch.setattr(Trainer, "validate", lambda self: {monitor: next(left)})
    words = runs.arguments(
        tiny_kitti, tmp_path, batch_size=16, keep_checkpoints=1, keep_best=2, monitor=monitor, num_epochs=6
    )
    runs.train([*words, "--max_steps", "3"])  # stopped, then resumed
    damaged = tmp_path / "run/checkpoints/epoch_0000.pt"
    damaged.write_bytes(b"damaged")
    os.utime(damaged, (0, 0))
    runs.train([*words, "--resume", "auto"])
    assert epochs_kept(tmp_path) == kept
    assert load_checkpoint(tmp_path / "run", which="best").training["epoch"] == best
    assert load_checkpoint(tmp_path / "run", which="last").training["epoch"] == 6


def test_epochs_of_another_metric_are_not_compared(tiny_kitti, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda self: {"loss": 0.1})
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=16, keep_checkpoints=1, keep_best=1)
    runs.train([*words, "--num_epochs", "2", "--monitor", "loss"])
    scores = iter([0.3, 0.4])
    monkeypatch.setattr(Trainer, "validate", lambda self: {"abs_rel": next(scores), "loss": 0.2})
    runs.train([*words, "--num_epochs", "4", "--monitor", "abs_rel", "--resume", "auto"])
    assert epochs_kept(tmp_path) == [3, 4]


def test_save_frequency_and_keep_checkpoints_select_epochs(tiny_kitti, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda self: {"abs_rel": 0.3})
    words = runs.arguments(
        tiny_kitti, tmp_path, batch_size=16, num_epochs=5, keep_checkpoints=0, save_frequency=2
    )
    runs.train(words)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("epoch_*"))
    assert kept == ["epoch_0002.pt", "epoch_0004.pt", "epoch_0005.pt"]


# How it goes on.

STEPS = 6  # of two epochs of 4


@pytest.fixture(scope="module")
def straight(tiny_kitti, tmp_path_factory):
    """Six steps in one go."""
    torch.set_num_threads(1)
    log_dir = tmp_path_factory.mktemp("straight")
    seen = runs.train(busy(tiny_kitti, log_dir, max_steps=STEPS))
    assert seen.schedule.steps_per_epoch == 4
    return log_dir


def busy(data, log_dir, **settings):
    """A run in which everything that can be drawn is drawn."""
    return runs.arguments(
        data,
        log_dir,
        **{
            "augment.jitter": 1.0,
            "views.local_crop": "true",
            "views.patch_reshuffle": "true",
            "scheduler": "cosine",
            "warmup_steps": 2,
            "clip_grad_norm": 1.0,
            **settings,
        },
    )


@pytest.mark.parametrize("how", ["max_steps", "sigterm"])
@pytest.mark.parametrize("stop", [2, 4, 5], ids=["within_an_epoch", "between_epochs", "within_the_next"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(stop, how, straight, tiny_kitti, tmp_path):
    if how == "max_steps":
        runs.train(busy(tiny_kitti, tmp_path, max_steps=stop))
    else:
        trainer = runs.build(busy(tiny_kitti, tmp_path, max_steps=STEPS))
        stop_after(trainer, stop)
        trainer.train()
        assert not trainer.finished
    assert runs.last(tmp_path).training["step"] == stop
    torch.manual_seed(999)  # nothing of this process may matter
    runs.train(busy(tiny_kitti, tmp_path, max_steps=STEPS, resume="auto"))

    ours, theirs = runs.last(tmp_path), runs.last(straight)
    assert_same(ours.weights, theirs.weights)
    for part in ("optimizer", "rng", "epoch", "step", "position", "metrics"):
        assert_same(ours.training[part], theirs.training[part], part)

    def losses(log_dir):
        return [(r["step"], r["loss"], r["learning_rate"]) for r in runs.records(log_dir) if "loss" in r]

    assert losses(tmp_path) == losses(straight)


def stop_after(trainer, step):
    """SIGTERM arrives while step `step` is under way."""
    inner = trainer.step

    def interrupted(batch):
        if trainer.progress.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(batch)

    trainer.step = interrupted


def test_val_mode_photo_measures_the_loss_despite_ground_truth(tiny_kitti, tmp_path):
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, val_mode="photo"))
    assert not trainer.validation.has_ground_truth and trainer.validation.goal.metric == "loss"


def test_inverted_pseudo_depth_is_reported_after_the_epoch(tiny_folder, tmp_path, capsys):
    """Pseudo-depth is what the network predicts at the start, and it hardly learns."""
    data = shutil.copytree(tiny_folder, tmp_path / "data")
    (data / "leres_depth").mkdir()
    options = {"learning_rate": 1e-9, "num_epochs": 1, "augment.jitter": 0}
    trainer = runs.build(runs.arguments(data, tmp_path / "first", **options))
    method = trainer.method.train()
    for image in data.glob("*.png"):
        depth = method.predict_depth(read_image(image)[None] / 255)[0, 0].detach().numpy()
        np.save(data / "leres_depth" / f"{image.stem}.npy", depth)
    for quantity in ("depth", "inverse_depth"):
        (data / "leres_depth/pseudo_depth.json").write_text(f'{{"quantity": "{quantity}"}}')
        more = {"dataset.pseudo_depth": "true", "losses.normal_matching.weight": 0.1}
        runs.train(runs.arguments(data, tmp_path / quantity, **options, **more))
        said = capsys.readouterr().err
        found = float(re.search(r"predicted depth after epoch 1: (-?[\d.]+)", said)[1])
        assert found > 0.5 if quantity == "depth" else found < -0.5, found
        assert ("one of them is inverted" in said) == (quantity == "inverse_depth")


def test_sigterm_in_the_last_step_leaves_only_the_validation(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=8, num_epochs=1)
    trainer = runs.build(words)
    stop_after(trainer, 2)
    trainer.train()
    assert not trainer.finished and trainer.best is None
    trainer = runs.train([*words, "--resume", "auto"])
    assert trainer.finished and trainer.progress.step == 2 and trainer.best is not None
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_run_killed_in_validation_loses_only_the_validation(tiny_kitti, tmp_path, monkeypatch):
    words = runs.arguments(tiny_kitti, tmp_path, num_epochs=2, save_frequency=2)
    trainer = runs.build(words)
    monkeypatch.setattr(trainer, "validate", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert runs.last(tmp_path).training["step"] == trainer.last_step
    trainer = runs.train([*words, "--resume", "auto"])
    assert trainer.finished and trainer.best is not None
    assert (tmp_path / "run/checkpoints/epoch_0002.pt").is_file()


@pytest.mark.parametrize("world, look", [("tiny_kitti", "predict"), ("tiny_folder", "losses")])
def test_validation_loaders_survive_a_sigterm_to_the_group(world, look, request, tmp_path, monkeypatch):
    trainer = runs.build(runs.arguments(request.getfixturevalue(world), tmp_path, num_workers=1))
    inner, reached = getattr(trainer.method, look), []

    def after_sigterm(*arguments):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGTERM)
            worker.join(0.5)
            reached.append(worker.is_alive())
        return inner(*arguments)

    monkeypatch.setattr(trainer.method, look, after_sigterm)
    assert trainer.validate()
    assert reached and all(reached)


def test_what_was_logged_beyond_the_checkpoint_is_forgotten(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path)
    runs.train([*words, "--max_steps", "2"])
    with open(tmp_path / "run/log.jsonl", "a") as file:
        file.write('{"step": 3, "loss": 9.0}\n{"step": 4, "lo')  # killed while writing
    runs.train([*words, "--max_steps", "3", "--resume", "auto"])
    assert [record["step"] for record in runs.records(tmp_path)] == [1, 2, 2, 3, 3]


def test_a_run_that_has_all_its_steps_says_so(tiny_kitti, tmp_path, capsys):
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=16, num_epochs=1)
    runs.train(words)
    runs.train([*words, "--resume", "auto"])
    assert "has had all its 1 steps; a larger --num_epochs adds more" in capsys.readouterr().err


def test_another_batch_size_goes_on_at_the_same_sample(tiny_kitti, tmp_path):
    runs.train(runs.arguments(tiny_kitti, tmp_path, batch_size=2, max_steps=4))
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, batch_size=4, resume="auto"))
    assert (trainer.progress.step, trainer.progress.position) == (4, 2)


def test_another_batch_size_keeps_epochs_and_schedule(tiny_kitti, tmp_path):
    """16 samples: eight steps in one epoch, then two in each."""
    settings = {"scheduler": "cosine", "learning_rate": 1e-4}
    runs.train(runs.arguments(tiny_kitti, tmp_path, batch_size=2, num_epochs=1, **settings))
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=8, num_epochs=3, resume="auto", **settings)
    trainer = runs.build(words)
    assert (trainer.progress.epoch, trainer.progress.step, trainer.last_step) == (1, 8, 12)
    assert not trainer.finished and trainer.schedule.rate(trainer.progress) == pytest.approx(
        1e-4 * (1 + math.cos(math.pi / 3)) / 2
    )
    trainer.train()
    assert (trainer.progress.epoch, trainer.progress.step) == (3, 12)


def test_fine_tuning_starts_from_weights_and_resumes_itself(tiny_kitti, tmp_path):
    runs.train(runs.arguments(tiny_kitti, tmp_path, batch_size=16, num_epochs=1))
    settings = {"model_name": "tuned", "load_weights_folder": tmp_path / "run", "resume": "auto", "seed": 1}
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=16, num_epochs=1, **settings)
    tuned = runs.build(words)  # nothing to resume yet
    assert tuned.progress.step == 0
    assert_same(dict(tuned.method.state_dict()), runs.last(tmp_path).weights)
    tuned.train()
    assert runs.build(words).progress.step == 1
    settings = {"model_name": "part", "load_weights_folder": tmp_path / "run", "models_to_load": "encoder"}
    part = runs.build(runs.arguments(tiny_kitti, tmp_path, batch_size=16, seed=1, **settings)).method
    saved = runs.last(tmp_path).weights
    loaded = {n.split(".")[0] for n, value in part.named_parameters() if torch.equal(value, saved[n])}
    assert loaded == {"encoder"}


def test_weights_without_training_state_cannot_be_resumed(tiny_kitti, tmp_path):
    trainer = runs.train(runs.arguments(tiny_kitti, tmp_path, batch_size=16, num_epochs=1))
    torch.save(
        {"parallax": 1, "weights": trainer.method.state_dict(), "options": {}}, tmp_path / "weights.pt"
    )
    with pytest.raises(InputError, match="holds weights only and cannot be resumed; --load_weights_folder"):
        runs.build(runs.arguments(tiny_kitti, tmp_path, resume=tmp_path / "weights.pt"))


@pytest.mark.parametrize(
    "settings, kind, expected",
    [
        ({}, "Adam", {"weight_decay": 0, "betas": (0.9, 0.999)}),
        ({"weight_decay": 0.01}, "AdamW", {"weight_decay": 0.01}),
        ({"optimizer": "adamw", "beta1": 0.8}, "AdamW", {"weight_decay": 0, "betas": (0.8, 0.999)}),
        ({"optimizer": "sgd", "momentum": 0.5}, "SGD", {"momentum": 0.5}),
    ],
)
def test_the_optimiser_is_the_one_named(tiny_kitti, tmp_path, settings, kind, expected):
    optimizer = runs.build(runs.arguments(tiny_kitti, tmp_path, **settings)).optimizer
    assert type(optimizer).__name__ == kind
    assert {key: optimizer.defaults[key] for key in expected} == expected


def test_resumed_run_keeps_moments_and_takes_new_settings(tiny_kitti, tmp_path):
    runs.train(runs.arguments(tiny_kitti, tmp_path, max_steps=1))
    changed = {"optimizer": "adamw", "weight_decay": 0.3, "beta1": 0.5, "resume": "auto"}
    resumed = runs.build(runs.arguments(tiny_kitti, tmp_path, **changed)).optimizer
    fresh = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], betas=(0.5, 0.999), weight_decay=0.3)
    other = {"params", "lr", "lr_factor"}
    (group,), (wanted,) = resumed.param_groups, fresh.param_groups
    assert {n: v for n, v in group.items() if n not in other} == {
        n: v for n, v in wanted.items() if n not in other
    }
    saved = runs.last(tmp_path).training["optimizer"]["state"]
    assert_same(resumed.state_dict()["state"], saved)


@pytest.mark.parametrize("was, wanted", [("adam", "sgd"), ("sgd", "adamw")])
def test_state_of_another_kind_of_optimiser_is_refused(was, wanted, tiny_kitti, tmp_path):
    runs.train(runs.arguments(tiny_kitti, tmp_path, max_steps=1, optimizer=was))
    with pytest.raises(InputError, match=f"trained with {was}, whose state is of no use to .*resume without"):
        runs.build(runs.arguments(tiny_kitti, tmp_path, optimizer=wanted, resume="auto"))


def test_networks_that_are_not_loaded_get_no_moments(tiny_kitti, tmp_path, monkeypatch):
    trainer = runs.train(runs.arguments(tiny_kitti, tmp_path, max_steps=1))
    published = runs.last(tmp_path)
    moments = {n: {"exp_avg": torch.ones_like(p)} for n, p in trainer.method.named_parameters()}
    published.training = {"optimizer_by_name": moments}
    monkeypatch.setattr("training.resuming.load_checkpoint", lambda path: published)
    settings = {"model_name": "part", "load_weights_folder": tmp_path / "run", "models_to_load": "encoder"}
    part = runs.build(runs.arguments(tiny_kitti, tmp_path, **settings))
    found = {n.split(".")[0] for n, p in part.method.named_parameters() if p in part.optimizer.state}
    assert found == {"encoder"}


def test_the_gradient_is_no_longer_than_clip_grad_norm(tiny_kitti, tmp_path):
    plain_steps = {"optimizer": "sgd", "momentum": 0, "learning_rate": 1, "clip_grad_norm": 1e-3}
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, max_steps=1, **plain_steps))
    before = [parameter.detach().clone() for parameter in trainer.parameters]
    trainer.train()
    moved = [(now - then).norm() for now, then in zip(trainer.parameters, before)]
    assert torch.stack(moved).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_a_group_of_parameters_has_its_own_factor_of_the_rate(tiny_kitti, tmp_path, monkeypatch):
    def groups(method):
        others = [*method.depth.parameters(), *method.pose.parameters()]
        return [{"params": list(method.encoder.parameters()), "lr_factor": 0.0}, {"params": others}]

    monkeypatch.setattr("methods.monodepth2.Monodepth2.parameter_groups", groups)
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, max_steps=1))
    before = {name: value.detach().clone() for name, value in trainer.method.named_parameters()}
    trainer.train()
    moved = {n.split(".")[0] for n, v in trainer.method.named_parameters() if not torch.equal(v, before[n])}
    assert moved == {"depth", "pose"}


def test_validation_keeps_statistics_and_random_numbers(tiny_folder, tmp_path):
    trainer = runs.build(runs.arguments(tiny_folder, tmp_path, batch_size=2))
    state = {name: value.clone() for name, value in trainer.method.state_dict().items()}
    drawn = torch.get_rng_state()
    assert math.isfinite(trainer.validate()["loss"])
    assert_same(dict(trainer.method.state_dict()), state)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_networks_are_laid_out_and_compiled_as_asked(tiny_kitti, tmp_path):
    method = runs.build(runs.arguments(tiny_kitti, tmp_path, channels_last=True, compile=True)).method
    kernels = [p for p in method.encoder.parameters() if p.ndim == 4 and min(p.shape) > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    assert all(child._compiled_call_impl for child in (method.encoder, method.depth, method.pose))


def test_kernels_of_3d_convolutions_keep_their_layout():
    module = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Conv3d(1, 8, 3))  # PackNet has both
    apply_form(module, Form(bfloat16=False, channels_last=True))
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous()


def test_max_steps_stops_and_keeps_the_schedule(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, scheduler="cosine", max_steps=3)
    assert [runs.build(words).last_step, runs.build(words).schedule.total_steps] == [3, 8]


# What goes wrong.


def poison(trainer, name, steps):
    """The term `name` is not a number at these steps, counted from 1, through what the network sees."""
    inner = trainer.model.losses

    def losses(batch, prediction):
        terms = inner(batch, prediction)
        if trainer.progress.step + 1 in steps:
            terms[name] = terms[name] * math.nan
        return terms

    trainer.model.losses = losses


def test_a_step_that_is_not_finite_is_named_kept_and_left_out(tiny_kitti, tmp_path, capsys):
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, max_steps=1))
    before = {key: value.clone() for key, value in trainer.method.state_dict().items()}
    poison(trainer, "smoothness", {1})
    trainer.train()
    changed = [
        key for key, value in trainer.method.state_dict().items() if not torch.equal(value, before[key])
    ]
    assert all(key.endswith("num_batches_tracked") for key in changed)  # nothing reads that counter
    path = tmp_path / "run/not_finite_step_1_rank_0.pt"
    sentence = f"step 1: smoothness is not finite; the batch is kept in {path}; the step is left out"
    assert sentence in capsys.readouterr().err
    kept = torch.load(path, weights_only=True)
    assert kept["images"][0].shape == (4, 3, 64, 96) and kept["index"].shape == (4,)


def test_run_stops_after_three_steps_that_are_not_finite(tiny_kitti, tmp_path):
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path))
    poison(trainer, "photometric", {1, 2, 4, 5, 6})  # step 3 is well, so the count begins again
    with pytest.raises(InputError, match=r"step 6: photometric is not finite.*3 in a row, so the run stops"):
        trainer.train()
    assert MAX_NOT_FINITE == 3


def test_a_full_disk_keeps_the_checkpoint_before(tiny_kitti, tmp_path, monkeypatch):
    words = runs.arguments(tiny_kitti, tmp_path)
    runs.train([*words, "--max_steps", "1"])
    before = runs.last(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    trainer = runs.build([*words, "--max_steps", "2", "--resume", "auto"])
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"last\.pt cannot be written: the disk is full.*untouched"):
        trainer.train()
    assert_same(runs.last(tmp_path).weights, before.weights)
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["best.pt", "last.pt"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny_kitti, tmp_path):
    with pytest.raises(InputError, match="cuda was asked for and there is no GPU here; try --device cpu"):
        runs.build(runs.arguments(tiny_kitti, tmp_path, device="cuda"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"device": "gpu"}, "device is auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"batch_size": 17}, "batch_size 17 is more than the 16 training samples; lower it"),
        ({"sync_batchnorm": True}, "sync_batchnorm needs GPUs; leave it out on the CPU"),
        ({"augment.hue": 0.6}, r"hue must be in \[0, 0.5\], got 0.6"),
        ({"augment.huge": 0.1}, "augment has no setting 'huge'; did you mean 'hue'"),
        (
            {"method.corners": 1},
            "method monodepth2 has no setting 'corners'; did you mean 'align_corners'",
        ),
        ({"losses.smoothnes.weight": 1}, "no losses/smoothnes.py; did you mean 'smoothness'"),
        (
            {"losses.photometric.weights": 1},
            "loss photometric has no setting 'weights'; did you mean 'weight'",
        ),
        ({"dataset.baselin": 1}, "dataset kitti has no setting 'baselin'; did you mean 'baseline'"),
        ({"method": "monodeth2"}, "no methods/monodeth2.py; did you mean 'monodepth2'"),
        ({"encoder": "resnet19"}, "resnet"),
        ({"resume": "nowhere.pt"}, "there is no file or folder nowhere.pt"),
        ({"load_weights_folder": "nowhere"}, "there is no file or folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(settings, sentence, tiny_kitti, tmp_path):
    with pytest.raises(InputError, match=sentence):
        runs.build(runs.arguments(tiny_kitti, tmp_path, **settings))
    assert not (tmp_path / "run").exists()


def test_run_folder_that_cannot_be_written_is_refused_early(tiny_kitti, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run cannot be written; give another with --log_dir"):
        runs.build(runs.arguments(tiny_kitti, tmp_path / "file"))


def test_a_truncated_image_is_named_also_by_a_loader_process(tiny_folder, tmp_path):
    scene = tmp_path / "scene"
    scene.mkdir()
    for path in tiny_folder.iterdir():
        (scene / path.name).write_bytes(path.read_bytes()[: 100 if path.name == "004.png" else None])
    trainer = runs.build(runs.arguments(scene, tmp_path, num_workers=1))
    with pytest.raises(InputError, match=r"004\.png cannot be read as an image .*truncated"):
        trainer.train()
