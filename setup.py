"""Name, requirements and the command `parallax`.

A folder called `datasets` or `utils` must not become importable from a whole environment. `pip install .`
installs one package, `parallax`, with every module inside it (parallax/_wheel.py). After `pip install -e .`
the package is the checkout's folder `parallax/`, and the command runs the checkout's scripts.
"""

import sys
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from parallax import __version__  # noqa: E402
from parallax._wheel import BuildPackage  # noqa: E402

LORA = ["peft>=0.12"]  # --depth_network.lora_rank
NOTEBOOK = ["ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"]  # docs/notebook.ipynb
DOCS = ["mkdocs-material>=9.5", *NOTEBOOK]  # make site
# The devkit does not run with numpy 2, and numpy 1 does not run with Python 3.13.
NUSCENES = ['nuscenes-devkit>=1.2; python_version < "3.13"', 'numpy<2; python_version < "3.13"']
ONNX = ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.3"]  # the last one is of torch's exporter
ROS = ["rosbags>=0.10"]  # recordings of ROS as inputs; ROS itself is not needed
# --checkpoint_mirror s3://...; the first one names the boto3 that fits, or pip searches for it for minutes
S3 = ["aiobotocore[boto3]>=2.13", "s3fs>=2024.6"]
TRANSFORMERS = ["transformers>=4.50"]  # networks that predict pseudo-depth
WANDB = ["wandb>=0.18"]  # --wandb


def requirements() -> list[str]:
    lines = (HERE / "requirements.txt").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


setup(
    name="parallax-depth",
    version=__version__,
    description="Self-supervised depth from video: train, compare, ship",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    install_requires=requirements(),
    extras_require={
        "audit": ["ImageHash>=4.3"],
        "docs": DOCS,
        "dev": [
            *S3,  # before moto, which would take the newest boto3
            "ImageHash>=4.3",
            "hypothesis>=6.100",
            "moto[s3,server]>=5.0",
            "pycolmap>=3.10",  # reads the bridge `gaussians` in a test
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "setuptools>=70",  # builds the wheel in a test
            "trimesh>=4.0",  # reads .glb files in a test
            *DOCS,
            *LORA,
            *NUSCENES,
            *ONNX,
            *ROS,
            *TRANSFORMERS,
            *WANDB,
        ],
        "lora": LORA,
        "nuscenes": NUSCENES,
        "onnx": ONNX,
        "ros": ROS,
        "s3": S3,
        "transformers": TRANSFORMERS,
        "wandb": WANDB,
        "trackio": ["trackio>=0.24"],
    },
    packages=["parallax"],
    package_dir={"parallax": "parallax"},  # an editable installation finds no other folder
    py_modules=[],
    cmdclass={"build_py": BuildPackage},
    entry_points={"console_scripts": ["parallax = parallax.__main__:main"]},
)
