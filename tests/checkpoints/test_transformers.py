"""Depth Anything and DPT of transformers, read without its package, predict what it predicts."""

import json

import pytest
import torch
from safetensors.torch import save_file

from checkpoints import load_checkpoint
from methods import load_method
from utils import InputError

transformers = pytest.importorskip("transformers")
CLS = "backbone.embeddings.cls_token"


def dpt_config():
    """A DPT with the transformer of timm's vit_tiny_patch16_384, which reads four of its blocks."""
    return transformers.DPTConfig(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=384,
        backbone_out_indices=[0, 2, 4, 6],
        neck_hidden_sizes=[4, 8, 16, 32],
        fusion_hidden_size=8,
    )


def anything_config(**changes):
    backbone = dict(
        model_type="dinov2",
        hidden_size=384,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    return transformers.DepthAnythingConfig(
        backbone_config=backbone, neck_hidden_sizes=[4, 8, 16, 32], fusion_hidden_size=8, **changes
    )


def saved(folder, build, config):
    """A model as its library saves it, with weights large enough for every part to matter."""
    torch.manual_seed(5)  # the library draws the initial weights; these vary the depth by a third of it
    model = build(config)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = parameter[0].numel() if name.startswith(("neck", "head")) and parameter.ndim > 1 else 400
            parameter += torch.randn(parameter.shape, generator=draw) / fan_in**0.5
            # The two libraries interpolate position embeddings with different filters.
            if name.endswith("position_embeddings"):
                parameter[:, 1:] = parameter[:, 1:2]
        model.head.get_submodule("conv3" if hasattr(model.head, "conv3") else "head.4").bias.fill_(2.0)
    model.eval().save_pretrained(folder)
    return model


def relative_error(folder, model, image, mean, std):
    """Largest difference to the inverse depth that the library predicts, in standard deviations of it."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    with torch.no_grad():
        expected = model((image - mean) / std).predicted_depth
        method, options = load_method(folder)
        found = method.depth(image)[0][:, 0] / options["depth_network"]["relative"]
    assert expected.std() > 0.2 and expected.max() < 50 and (expected > 0).float().mean() > 0.2
    return ((found - expected).abs().max() / expected.std()).item()


def test_dpt_predicts_what_its_library_predicts(tmp_path):
    model = saved(tmp_path, transformers.DPTForDepthEstimation, dpt_config())
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    assert relative_error(tmp_path, model, image, [0.5] * 3, [0.5] * 3) < 1e-3
    assert load_checkpoint(tmp_path).layout == "transformers"


def test_depth_anything_predicts_what_its_library_predicts(tmp_path):
    model = saved(tmp_path, transformers.DepthAnythingForDepthEstimation, anything_config())
    image = torch.rand(1, 3, 56, 84, generator=torch.Generator().manual_seed(1))
    error = relative_error(tmp_path, model, image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert error < 1e-3


def small_file(folder, **config):
    """A file with the keys of Depth Anything and no more tensors than recognition needs."""
    weights = {
        CLS: torch.zeros(1, 1, 384),
        "neck.fusion_stage.layers.0.projection.weight": torch.zeros(8, 8, 1, 1),
        "backbone.encoder.layer.3.norm1.weight": torch.zeros(384),
    }
    save_file(weights, folder / "model.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / "model.safetensors"


def test_a_file_without_its_configuration_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"needs its config\.json next to it, which tells whether"):
        load_checkpoint(small_file(tmp_path))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "depth_anything", "depth_estimation_type": "metric"},
            "is metric depth, which cannot",
        ),
        (
            {"model_type": "dpt", "backbone_config": {"model_type": "swinv2"}},
            "a dpt with a backbone of type swin",
        ),
        ({"model_type": "depth_anything"}, "has a transformer of 4 blocks of width 384, which timm lacks"),
    ],
)
def test_other_models_are_refused_in_a_sentence(config, words, tmp_path):
    with pytest.raises(InputError, match=words):
        load_checkpoint(small_file(tmp_path, **config))
