"""Kinds of files without weights that can be read, told from their first bytes or their members."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from files import HEAD, PLACEHOLDERS, kind_of

_UNPACK = "unpack it and name the run folder or file in it"
_WEIGHTS = "name the checkpoint that it was made from"
# Beginning of the file → the kind of file, and what to do.
_BEGINNINGS = (
    *PLACEHOLDERS,
    (rb"\x93NUMPY", "a numpy array", "evaluate_depth.py --ext_disp_to_eval takes saved disparities"),
    (rb"\x89HDF", "an HDF5 file, as Keras or MATLAB write", "convert its weights to a torch state dict"),
    (rb"GGUF", "a language model in GGUF", "name a checkpoint of a depth network"),
    (rb"....TFL3", "a TensorFlow Lite model", _WEIGHTS),
    (rb"\x08[\x01-\x20][\x12\x1a\x22\x3a\x42]", "an ONNX model", _WEIGHTS),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a compressed archive", _UNPACK),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF", "an image or a video", "name a checkpoint"),
    (
        rb"\x80.(?!.{0,12}l\xfc\x9cF\xf9 j\xa8P\x19)",  # torch's own begin with this number
        "a pickle that torch.save did not write",
        "load it where you trust it, and save its weights by torch.save(weights, 'weights.pth')",
    ),
    (rb"%PDF", "a PDF document", "name a checkpoint"),
    (rb"\s*[\[{][^\x00-\x08\x0e-\x1f\x80-\xff]*$", "a text in JSON", "name the file with the weights"),
    (rb"[^\x00-\x08\x0e-\x1f\x80-\xff]+$", "a text", "name the file with the weights"),
)


def other_kind(path: Path) -> str:
    """Kind of a file and the fix, such as `a git-LFS pointer; fetch ...`; the empty string if its content may
    be weights.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        return _of_zip(path)
    if head[257:262] == b"ustar":
        return _of_tar(path)
    return kind_of(head, _BEGINNINGS)


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as .safetensors do: the length of a JSON header, then that header."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def is_whole_module(path: Path) -> bool:
    """Whether the pickle in a torch file builds classes of `torch.nn`, as `torch.save(model)` writes it."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return b"torch.nn.modules." in file.read(1 << 24)
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return any(b"torch.nn.modules." in archive.read(name) for name in pickles)


def _of_zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        return (
            "a TorchScript program, which runs its own code; save its weights where you trust it: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )
    if "data.pkl" in inner:
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return f"a numpy archive of {_listed(names)}; name the file with the weights"
    return f"a zip archive of {_listed(names)}; {_UNPACK}"


def _of_tar(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in (archive.next() for _ in range(4)) if member]
    except (tarfile.TarError, OSError):
        names = []
    return f"a tar archive of {_listed(names)}; {_UNPACK}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "nothing"
