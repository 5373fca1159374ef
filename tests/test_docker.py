"""The Dockerfile fits the project. Docker itself is not needed, and the image is not built."""

from __future__ import annotations

import ast
import fnmatch
import re
import shutil
import subprocess

import pytest

from utils import PROJECT

MAKE = ["make", "--no-print-directory", "-n"]  # prints the commands, also under another make
UBUNTU_PYTHON = {"22.04": (3, 10), "24.04": (3, 12)}  # of the package python3


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def test_every_copied_file_exists_and_is_not_ignored():
    ignored = (PROJECT / ".dockerignore").read_text().split()
    sources = [word for line in arguments("COPY") for word in line.split()[:-1] if not word.startswith("--")]
    assert {".", "requirements.txt", "setup.py"} <= set(sources)
    for source in sources:
        assert (PROJECT / source).exists(), source
        assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored), source


def test_the_whole_project_reaches_the_image():
    ignored = (PROJECT / ".dockerignore").read_text().split()
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("needs the git repository")
    tracked = {name.split("/")[0] for name in done.stdout.splitlines()}
    assert not [top for top in tracked if any(fnmatch.fnmatch(top, pattern) for pattern in ignored)]


def test_the_base_image_has_cuda_and_a_python_that_we_support():
    (base,) = arguments("FROM")
    assert base.startswith("nvidia/cuda:")
    python = UBUNTU_PYTHON[re.search(r"ubuntu(\d+\.\d+)", base)[1]]
    supported = re.search(r'python_requires="([^"]+)"', (PROJECT / "setup.py").read_text())[1]
    low, high = (tuple(map(int, bound.split("."))) for bound in re.findall(r"\d+\.\d+", supported))
    assert low <= python < high
    packages = " ".join(arguments("RUN")).split()
    assert {"python3", "python3-venv", "python3-dev", "g++"} <= set(packages)


def test_the_image_installs_as_the_readme_says():
    install = " ".join(arguments("RUN"))
    assert "python3 -m venv" in install and "pip install --no-cache-dir -e " in install
    assert "pip install -e ." in (PROJECT / "README.md").read_text()
    extras = re.search(r'-e "\.\[([\w,]+)\]"', install)[1].split(",")
    tree = ast.parse((PROJECT / "setup.py").read_text())
    known = next(ast.unparse(k.value) for k in ast.walk(tree) if getattr(k, "arg", "") == "extras_require")
    assert all(f"'{extra}':" in known for extra in extras)


def test_the_user_is_not_root_and_owns_what_is_mounted():
    names = [name for name, _ in instructions()]
    assert arguments("USER")[-1] not in ("root", "0")
    assert names.index("USER") < names.index("COPY")
    volumes = ast.literal_eval(arguments("VOLUME")[0])
    made = next(line for line in arguments("RUN") if "mkdir" in line)
    assert all(f" {volume}" in made.partition("chown")[2] for volume in volumes)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_mounts_data_and_runs_where_the_image_expects_them():
    command = [*MAKE, "docker-build", "docker-start-interactive", "DATA=/mnt/kitti", "RUNS=/mnt/runs"]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    environment = dict(line.split("=", 1) for line in arguments("ENV"))
    (workdir,) = arguments("WORKDIR")
    assert f'-v "/mnt/kitti":{environment["PARALLAX_DATA"]} ' in printed
    assert f'-v "/mnt/runs":{workdir}/runs ' in printed
    assert "--gpus all" in printed and " -it parallax bash" in printed
    build = next(line for line in printed.splitlines() if line.startswith("docker build"))
    given = re.findall(r"--build-arg (\w+)=\d+", build)
    assert given == [line.split("=")[0] for line in arguments("ARG")]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_machine_without_a_gpu_starts_the_image_too():
    command = [*MAKE, "docker-run", "GPUS=", "COMMAND=python run.py --list"]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "--gpus" not in printed and printed.endswith(" parallax python run.py --list\n")
