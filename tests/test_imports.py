"""Siblings stay apart, rare packages stay in the files that need them, and nothing is unpickled blindly."""

import ast
from pathlib import Path

import pytest

from tests.test_structure import FILES
from utils import PROJECT

FOLDERS = ("networks", "losses", "datasets", "methods")

RARE = {  # files, or whole folders
    "nuscenes": {"datasets/_nuscenes_tables.py"},
    "onnx": {"tools/_export_onnx.py"},
    "onnxruntime": {"tools/_export_int8.py", "tools/_depth_models.py"},
    "transformers": {"tools/_depth_models.py"},
    "wandb": {"sinks.py"},
    "fsspec": {"storage.py"},
    "av": {"datasets/video.py"},
    "cv2": {
        "datasets/video.py",
        "datasets/_video_frames.py",
        "datasets/_bags.py",
        "datasets/nyuv2.py",
        "clouds.py",
        "evaluation/depth_edges.py",
        "prediction/frames.py",
        "prediction/bridges/gaussians.py",
        "prediction/fusion.py",
        "prediction/live.py",
        "videos.py",
        "evaluation/corruption_kinds.py",
        "tools/_doctor/",
        "tools/_ego_mask.py",
        "matching/",
        "tools/layouts/",
        "tools/_mask_files.py",
        "tools/_rig_matches.py",
        "tools/_scale_geometry.py",
        "tools/_synthetic_sets.py",
        "tools/_frame_selection.py",
        "benchmarks/focal_length.py",
        "benchmarks/sift_matches.py",
        "benchmarks/tables/_worlds.py",
    },
    "matplotlib": {"images.py", "videos.py", "evaluation/odometry.py", "tools/demo.py"},
    "imagehash": {"evaluation/near_duplicates.py"},
    "h5py": {"datasets/_nyuv2_files.py", "tools/layouts/nyuv2.py"},
    "huggingface_hub": {"checkpoints/_hub.py", "checkpoints/hub.py", "tools/push.py", "networks/_timm.py"},
    "peft": {"networks/_lora.py"},
    "rosbags": {"datasets/_bags.py"},
    "timm": {"networks/hrnet.py", "networks/_timm.py"},
}
UNPICKLING = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve"}
HARMLESS = {"pickle", "pickle.UnpicklingError"}  # the module's name, and the error that refusing raises


def imported(path: Path) -> list[tuple[str, int]]:
    """Dotted names that a file imports when it runs, with the line; of `from a import b` also a.b."""
    found = []
    tree = ast.parse((PROJECT / path).read_text())
    tree.body = [node for node in tree.body if not _for_annotations(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [(node.module, node.lineno)]
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def _for_annotations(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


COMPONENTS = [path for path in FILES if path.parts[0] in FOLDERS and path.parts[1] != "__init__.py"]


@pytest.mark.parametrize("path", COMPONENTS, ids=str)
def test_siblings_do_not_import_each_other(path):
    """Except the folder's private files, `__init__`, one's own package, and the method that one extends."""
    folder, own = path.parts[0], path.parts[1].removesuffix(".py")
    extended = set()
    for name, line in imported(path):
        parts = name.split(".")
        if parts[0] != folder or len(parts) < 2 or not module_exists(folder, parts[1]):
            continue
        if parts[1].startswith("_") or parts[1] == own or not registers(folder, parts[1]):
            continue
        assert folder == "methods", f"{path}:{line} imports its sibling {name}; share it in a _file.py"
        extended.add(parts[1])
    assert len(extended) <= 1, f"{path} extends more than one method: {extended}"
    for base in extended:
        again = {n.split(".")[1] for n, _ in imported(Path(folder, f"{base}.py")) if n.startswith("methods.")}
        deeper = {name for name in again if module_exists(folder, name) and not name.startswith("_")}
        assert not deeper, f"{path} extends {base}, which extends {deeper}; one level is enough"


def registers(folder: str, name: str) -> bool:
    """Whether a file holds a component, rather than what several of them share."""
    path = PROJECT / folder / f"{name}.py"
    return path.exists() and f"@{folder.upper()}.register" in path.read_text()


def module_exists(folder: str, name: str) -> bool:
    return (PROJECT / folder / f"{name}.py").exists() or (PROJECT / folder / name / "__init__.py").exists()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_rare_packages_stay_in_the_files_that_need_them(path):
    for name, line in imported(path):
        package = name.split(".")[0]
        places = RARE.get(package, {path.as_posix()})
        assert any(path.is_relative_to(place) for place in places), (
            f"{path}:{line} imports {package}; import it in one of {sorted(places)}, or add the file"
        )


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_is_unpickled_outside_checkpoints(path):
    if path.as_posix() == "checkpoints/_reading.py":
        return
    for name, line in imported(path):
        assert name.split(".")[0] not in UNPICKLING or name in HARMLESS, f"{path}:{line} imports {name}"
    for node in ast.walk(ast.parse((PROJECT / path).read_text())):
        if not isinstance(node, ast.Call):
            continue
        assert not ast.unparse(node.func).startswith("pickle."), f"{path}:{node.lineno} unpickles"
        called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called in ("torch.load", "torch.jit.load"):
            assert keywords.get("weights_only") == "True", (
                f"{path}:{node.lineno}: {called} runs a file's code"
            )
        assert keywords.get("allow_pickle", "False") == "False", f"{path}:{node.lineno} allows pickles"
        assert "yaml.load" not in called or path.name == "utils.py", (
            f"{path}:{node.lineno}: use utils.read_yaml"
        )
