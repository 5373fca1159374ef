"""Two torchrun agents as on two machines: each in a network of its own, with one shared folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from tests import runs
from utils import PROJECT

# Two network namespaces that a virtual cable joins. `$other` is a process in the second one.
SCRIPT = """
set -eu
ip link set lo up
unshare --net sleep 900 & other=$!
trap 'kill $other' EXIT
while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
ip link add veth0 type veth peer name veth1
ip link set veth1 netns $other
ip addr add 10.9.0.1/24 dev veth0
ip link set veth0 up
nsenter -t $other -n sh -c 'ip link set lo up; ip addr add 10.9.0.2/24 dev veth1; ip link set veth1 up'
agent="-m torch.distributed.run --nnodes 2 --nproc_per_node 1 --max_restarts 3 --rdzv_id walk
    --rdzv_backend c10d --rdzv_endpoint 10.9.0.1:29400"
# Both nodes have one host name here, so they are told who is the host of the rendezvous.
GLOO_SOCKET_IFNAME=veth0 {python} $agent --local_addr 10.9.0.1 --rdzv_conf is_host=1 {words} & first=$!
GLOO_SOCKET_IFNAME=veth1 nsenter -t $other -n \\
    {python} $agent --local_addr 10.9.0.2 --rdzv_conf is_host=0 {words} & second=$!
wait $first
wait $second
"""


def can_make_networks() -> bool:
    """Whether this user may make network namespaces."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    cable = "ip link add veth0 type veth peer name veth1"
    command = ["unshare", "--map-root-user", "--net", *cable.split()]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_make_networks(), reason="this user may not make network namespaces")
def test_two_nodes_go_on_after_a_lost_worker(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=2, num_epochs=12, resume="auto")
    script = SCRIPT.format(python=shlex.quote(sys.executable), words=shlex.join(["run.py", *words]))
    with open(tmp_path / "output.txt", "w") as output:
        process = subprocess.Popen(
            ["unshare", "--map-root-user", "--net", "sh", "-c", script],
            cwd=PROJECT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run = tmp_path / "run"
    second_epoch = run / "checkpoints/epoch_0002.pt"
    try:
        runs.wait_for(lambda: process.poll() is not None or second_epoch.exists())
        assert process.poll() is None, (tmp_path / "output.txt").read_text()
        os.kill(json.loads((run / "lock.json").read_text())["pid"], signal.SIGKILL)
        assert process.wait(runs.HANG) == 0, (tmp_path / "output.txt").read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    said = (tmp_path / "output.txt").read_text()
    last = runs.last(tmp_path).training
    assert (last["world"], last["epoch"]) == (2, 12)
    assert "2 processes" in said and "continues after step" in said, said
    steps = [record["step"] for record in runs.records(tmp_path) if "loss" in record]
    assert steps == sorted(set(steps)) and steps[-1] == last["step"]  # no step is logged twice
