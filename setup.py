"""Name, version and requirements. No module is installed: Parallax runs from its checkout.

A folder called `datasets` or `utils` must not become importable from a whole environment. Other code uses
`torch.hub.load(<checkout>, ...)` (hubconf.py) or an exported model.
"""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
# The devkit does not run with numpy 2, and numpy 1 does not run with Python 3.13.
NUSCENES = ['nuscenes-devkit>=1.2; python_version < "3.13"', 'numpy<2; python_version < "3.13"']
ONNX = ["onnxruntime>=1.18"]
TRANSFORMERS = ["transformers>=4.50"]  # networks that predict pseudo-depth


def requirements() -> list[str]:
    lines = (HERE / "requirements.txt").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


setup(
    name="parallax-depth",
    version="0.1.0",
    description="Self-supervised depth from video: train, compare, ship",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    install_requires=requirements(),
    extras_require={
        "audit": ["ImageHash>=4.3"],
        "dev": [
            "ImageHash>=4.3",
            "hypothesis>=6.100",
            "onnx>=1.16",
            *ONNX,
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            *TRANSFORMERS,
            *NUSCENES,
        ],
        "nuscenes": NUSCENES,
        "onnx": ONNX,
        "transformers": TRANSFORMERS,
        "wandb": ["wandb>=0.18"],
        "trackio": ["trackio>=0.2"],
    },
    packages=[],
    py_modules=[],
)
