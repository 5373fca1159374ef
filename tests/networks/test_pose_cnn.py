import pytest
import torch

from layers import pose_matrix
from networks.pose_cnn import PoseCNN
from tests.goldens import Golden, state_dict, tensor
from utils import InputError


@pytest.mark.parametrize("size", [(32, 64), (64, 96)])
@pytest.mark.parametrize("num_frames", [2, 3])
def test_stacked_frames_give_one_motion_fewer(size, num_frames):
    axis_angle, translation = PoseCNN(num_frames)(torch.rand(2, 3 * num_frames, *size))
    assert axis_angle.shape == translation.shape == (2, num_frames - 1, 3)


@pytest.mark.parametrize("num_frames", [2, 3])
def test_motions_are_the_published_ones(num_frames):
    golden = Golden("monodepth2_posecnn")
    frames = [tensor(image) for image in golden.inputs().values()]
    network = PoseCNN(num_frames)
    network.load_state_dict(state_dict(f"monodepth2_posecnn{num_frames}"))
    with torch.no_grad():
        axis_angle, translation = network(torch.cat(frames[:num_frames], 1))
    case = f"cnn{num_frames}"
    golden.close(f"{case}_axisangle", axis_angle[:, :, None])
    golden.close(f"{case}_translation", translation[:, :, None])
    for name, invert in (("T", False), ("T_inv", True)):
        golden.close(f"{case}_{name}", pose_matrix(axis_angle[:, 0], translation[:, 0], invert))


def test_one_frame_is_refused():
    with pytest.raises(InputError, match="at least 2 frames, got num_frames 1"):
        PoseCNN(1)
