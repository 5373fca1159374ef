"""Dense masked operations against the definition of sparse ones: dictionaries of sites and plain loops."""

import itertools

import pytest
import torch

from networks.packnet_san import PackNetSan
from networks.sparse_encoder import SparseConv, SparseEncoder, SparseNorm, sparse_max_pool
from tests.packnet_goldens import PacknetGolden, load_published
from utils import InputError

Sites = dict[tuple[int, int, int], torch.Tensor]  # (sample, row, column) → features


def random_map(channels: int, share: float, seed: int, size=(2, 12, 16)) -> tuple[torch.Tensor, torch.Tensor]:
    """A sparse map and its sites; double precision, values of both signs."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = size
    mask = torch.rand(batch, 1, height, width, generator=generator) < share
    x = torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)
    return torch.where(mask, x, 0.0), mask


def to_sites(x: torch.Tensor, mask: torch.Tensor) -> Sites:
    return {(b, r, c): x[b, :, r, c] for b, _, r, c in mask.nonzero().tolist()}


def to_dense(sites: Sites, like: torch.Tensor) -> torch.Tensor:
    x = torch.zeros_like(like)
    for (b, r, c), features in sites.items():
        x[b, :, r, c] = features
    return x


def convolve(sites: Sites, kernel: torch.Tensor, size: int) -> Sites:
    """Sum over the occupied neighbours of each site; the row offset varies fastest in the kernel."""
    half, out = size // 2, {}
    for b, r, c in sites:
        total = torch.zeros(kernel.shape[2], dtype=kernel.dtype)
        for number, (dc, dr) in enumerate(itertools.product(range(-half, half + 1), repeat=2)):
            if (b, r + dr, c + dc) in sites:
                total = total + sites[b, r + dr, c + dc] @ kernel[number]
        out[b, r, c] = total
    return out


def pool(sites: Sites) -> Sites:
    """Sites at floor(coordinate / 2); the maximum over the occupied 3 x 3 window around twice the site."""
    out = {}
    for b, r, c in {(b, r // 2, c // 2) for b, r, c in sites}:
        window = itertools.product((b,), range(2 * r - 1, 2 * r + 2), range(2 * c - 1, 2 * c + 2))
        out[b, r, c] = torch.stack([sites[site] for site in window if site in sites]).amax(0)
    return out


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_convolution_sums_over_occupied_neighbours(share, size):
    x, mask = random_map(3, share, seed=size)
    conv = SparseConv(3, 4, size).double()
    expected = to_dense(
        convolve(to_sites(x, mask), conv.kernel.detach(), size), x[:, :1].expand(-1, 4, -1, -1)
    )
    assert torch.allclose(conv(x, mask), expected, atol=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_pooling_takes_the_maximum_of_occupied_sites(share):
    x, mask = random_map(3, share, seed=1)
    pooled, pooled_mask = sparse_max_pool(x, mask)
    expected = pool(to_sites(x, mask))
    assert torch.equal(pooled, to_dense(expected, torch.zeros_like(pooled)))
    assert {(b, r, c) for b, _, r, c in pooled_mask.nonzero().tolist()} == set(expected)


def test_site_in_a_neighbouring_block_adds_no_site():
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[0, 0, 1, 1] = True  # inside the 3 x 3 window of (2, 2), in the 2 x 2 block of (0, 0)
    pooled, pooled_mask = sparse_max_pool(torch.where(mask, 7.0, 0.0), mask)
    assert pooled_mask[0, 0].tolist() == [[True, False], [False, False]]
    assert pooled[0, 0].tolist() == [[7, 0], [0, 0]]


def test_norm_is_that_of_the_list_of_sites():
    x, mask = random_map(5, 0.2, seed=3)
    norm = SparseNorm(5).double()
    torch.nn.init.uniform_(norm.bn.weight)
    torch.nn.init.uniform_(norm.bn.bias)
    reference = torch.nn.BatchNorm1d(5).double()
    reference.load_state_dict(norm.bn.state_dict())
    sites = to_sites(x, mask)
    for training in (True, False):
        rows = reference.train(training)(torch.stack(list(sites.values())))
        norm.train(training)
        expected = to_dense(dict(zip(sites, rows)), x)
        assert torch.allclose(norm(x, mask), expected)
    assert torch.allclose(norm.bn.running_mean, reference.running_mean)
    assert torch.allclose(norm.bn.running_var, reference.running_var)


def test_maps_are_the_published_ones():
    golden = PacknetGolden("packnetsan01_1A_rgbd")
    with torch.device("meta"):
        network = PackNetSan()
    network = load_published(network, "packnetsan01_1A_rgbd")
    with torch.no_grad():
        for stage, feature in enumerate(network.mconvs(golden.inputs()["input_depth"])):
            golden.close(f"sparse_feature_{stage}", feature)


def test_maps_halve_and_are_zero_off_the_sites():
    depth = torch.zeros(1, 1, 32, 64)
    depth[0, 0, 9, 17] = 12.0
    maps = SparseEncoder((4, 6, 8), (5, 3, 3)).eval()(depth)
    assert [tuple(x.shape[1:]) for x in maps] == [(4, 16, 32), (6, 8, 16), (8, 4, 8)]
    for stage, x in enumerate(maps, 1):
        elsewhere = x.clone()
        elsewhere[0, :, 9 >> stage, 17 >> stage] = 0
        assert elsewhere.abs().max() == 0


@pytest.mark.parametrize("training", [True, False])
def test_without_measurements_all_maps_are_zero(training):
    encoder = SparseEncoder((4, 6), (3, 3)).train(training)
    before = {name: value.clone() for name, value in encoder.named_buffers() if "running" in name}
    maps = encoder(torch.zeros(2, 1, 8, 8))
    assert all(x.abs().max() == 0 for x in maps)
    sum(x.sum() for x in maps).backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    assert all(torch.equal(dict(encoder.named_buffers())[name], value) for name, value in before.items())


def test_one_measurement_trains_without_an_undefined_variance():
    encoder = SparseEncoder((4, 6), (3, 3))
    depth = torch.zeros(1, 1, 8, 8)
    depth[0, 0, 3, 3] = 5.0
    sum(x.square().sum() for x in encoder(depth)).backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    assert all(value.isfinite().all() for value in encoder.buffers())


@pytest.mark.parametrize("training", [True, False])
def test_in_bfloat16_maps_stay_close_and_zero_off_the_sites(training):
    torch.manual_seed(0)  # a feature next to zero may change its sign by rounding
    encoder = SparseEncoder((4, 6), (3, 3)).train(training)
    depth = torch.rand(2, 1, 16, 16) * (torch.rand(2, 1, 16, 16) < 0.2)
    exact = encoder(depth)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(depth)
    for one, other in zip(exact, rounded):
        assert torch.equal(other[one == 0], torch.zeros_like(other[one == 0])) or training
        assert (one - other).abs().max() < 0.1 * (1 + one.abs().max())


def test_odd_sizes_and_even_kernels_are_refused():
    with pytest.raises(InputError, match="multiples of 32, got 40 x 64"):
        SparseEncoder()(torch.zeros(1, 1, 40, 64))
    with pytest.raises(InputError, match=r"kernels must be odd, got \[4, 3\]"):
        SparseEncoder((8, 8), (4, 3))
    with pytest.raises(InputError, match="2 channels and 1 kernels"):
        SparseEncoder((8, 8), (3,))
