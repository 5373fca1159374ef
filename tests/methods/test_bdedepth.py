"""BDEdepth: its parts, its pose network against the goldens, and a falling loss."""

import pytest
import torch

from datasets.augmentation import Augment
from layers import pose_matrix
from methods.bdedepth import BDEdepth
from networks import NETWORKS
from options import parse
from tests.goldens import Golden, state_dict, tensor
from utils import InputError
from views import with_views

SMALL = {"encoder": "timm/test_efficientnet", "pose_model_type": "posecnn", "weights_init": "scratch"}


def test_defaults_are_hrnet_grid_decoder_and_both_views():
    method = BDEdepth(weights_init="scratch")
    parts = {"encoder": 9_564_116, "depth": 634_084}
    for name, size in parts.items():
        assert sum(p.numel() for p in getattr(method, name).parameters()) == size
    assert method.scales == (0,) and BDEdepth.defaults["views"]["detail"] == 2
    assert method.loss_weights == {"photometric": 1.0, "smoothness": 1e-3}
    assert len(method.pose_encoder.state_dict()) == 120  # a ResNet18


def test_a_view_can_be_switched_off():
    views = parse(["--method", "bdedepth", "--views.patch_reshuffle", "false"]).views
    model = with_views(BDEdepth(**SMALL), views)
    assert model.views.local_crop and not model.views.patch_reshuffle and model.weight == 0.07


def test_the_pose_network_is_the_published_one():
    golden = Golden("bdedepth_pose_resnet18")
    inputs = golden.inputs()
    weights = state_dict("bdedepth_pose_encoder")
    encoder, pose = NETWORKS.get("resnet")(18, num_images=2), NETWORKS.get("pose_decoder")((512,), 1, 2)
    encoder.load_state_dict({key: value for key, value in weights.items() if ".fc." not in key})
    pose.load_state_dict(state_dict("bdedepth_pose"))
    pair = torch.cat([tensor(inputs["a"]), tensor(inputs["b"])], 1)
    with torch.no_grad():
        for mode in ("", "train_"):
            encoder.train(bool(mode))
            axis_angle, translation = pose([encoder(pair)])
            golden.close(f"{mode}axisangle", axis_angle[:, :, None])
            golden.close(f"{mode}translation", translation[:, :, None])
            golden.close(f"{mode}T", pose_matrix(axis_angle[:, 0], translation[:, 0]))
            golden.close(f"{mode}T_inv", pose_matrix(axis_angle[:, 0], translation[:, 0], invert=True))


def test_loss_falls_over_ten_steps_on_one_scene(drawn_batch):
    torch.manual_seed(0)
    method = BDEdepth(**SMALL, min_depth=0.1, max_depth=4.0)
    model = with_views(method, BDEdepth.defaults["views"]).train()
    optimizer = torch.optim.AdamW(method.parameters(), 1e-3, weight_decay=0.01)
    batch = Augment(jitter=0, flip=0)(drawn_batch, epoch=0)
    losses = []
    for _ in range(10):
        total = sum(model.losses(batch, model(batch)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.5 * losses[0]


def test_configs_and_command_line_override_its_defaults(tmp_path):
    options = parse(["--method", "bdedepth"])
    assert (options.scales, options.encoder, options.decoder) == ([0], "hrnet18", "grid_decoder")
    assert (options.optimizer, options.weight_decay) == ("adamw", 0.01)
    assert options.views == {"local_crop": True, "patch_reshuffle": True, "detail": 2}
    assert parse(["--method", "bdedepth", "--scales", "0", "1"]).scales == [0, 1]
    assert parse([]).scales == [0, 1, 2, 3] and parse([]).views == {}
    assert parse(["--method", "bdedepth"], saved={"weight_decay": 0.0}).weight_decay == 0


@pytest.mark.parametrize(
    "words, expected",
    [
        ("--backbone resnet --num_layers 50", {"encoder": "resnet50"}),
        ("--backbone hrnet", {"encoder": "hrnet18"}),
        ("--use_local_crop", {"views": {"local_crop": True, "patch_reshuffle": False}}),
        ("--use_patch_reshuffle --use_local_crop", {"views": {"local_crop": True, "patch_reshuffle": True}}),
        ("--num_scales 2", {"scales": [0, 1]}),
        ("--exp_name x --lr_sche_type cos --eta_min 5e-6", {"model_name": "x", "scheduler": "cosine"}),
        ("--decay_step 26 36 --decay_rate 0.5", {"decay_epochs": [26, 36], "scheduler_gamma": 0.5}),
        ("--clip_grad -1 --resume", {"clip_grad_norm": None, "resume": "auto"}),
        ("--views.local_crop false --jpg", {"views": {"local_crop": False, "patch_reshuffle": True}}),
    ],
)  # fmt: skip
def test_published_flags_are_translated(words, expected):
    options = vars(parse(["--method", "bdedepth", *words.split()]))
    options["views"].pop("detail")
    assert {key: options[key] for key in expected} == expected


@pytest.mark.parametrize(
    "words", ["--method bdedepth --num_layers 50", "--method.name bdedepth --num_layers 50"]
)
def test_num_layers_is_refused_for_an_encoder_other_than_resnet(words):
    with pytest.raises(InputError, match="default encoder of bdedepth is hrnet18; add --encoder resnet50"):
        parse(words.split())
    assert parse([*words.split(), "--encoder", "resnet50"]).encoder == "resnet50"
    assert parse(["--method", "bdedepth", "--num_layers", "18"]).encoder == "hrnet18"  # as published
