"""Models on the Hugging Face hub: `hf://owner/name` wherever a model is named; `hf:owner/name` is the same.

    hf://owner/name                  model.safetensors (else pytorch_model.bin) of the repository, as
                                     tools/push.py writes it, or with the config.json of another library
    hf://owner/name@v2               the same of a branch, tag or commit
    hf://owner/name/other.pt         another file of it, in any layout that is read

Files are kept in the hub's cache ($HF_HOME), so that a model that was used once needs no network. Private
models need a token: `hf auth login`, or $HF_TOKEN. $HF_ENDPOINT is another server. Loading runs no code of
the repository, since only weights and options are read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from checkpoints._averages import with_averages
from checkpoints._reading import read_file
from checkpoints._wrappers import nested_state, without_holder, without_wrappers
from utils import InputError

RELEASE = "model.safetensors"
WEIGHTS = (RELEASE, "pytorch_model.bin")  # the first is preferred
CONFIG = "config.json"  # of models of other libraries
_ADDRESS = re.compile(r"hf:/{0,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?(?:/([^@]+))?")
_EXAMPLE = "write hf://OWNER/NAME"


class Address(NamedTuple):
    """Repository `owner/name`, revision (None for the default branch) and file (None for the model's)."""

    repository: str
    revision: str | None
    file: str | None


def is_hub(path: str | Path) -> bool:
    """True for an address of the hub; a `Path` of one has lost a slash."""
    return str(path).startswith("hf:")


def parse(path: str | Path) -> Address:
    """The parts of an address.

    Raises:
        InputError: it is not `hf://owner/name`, with a revision or a file if any.
    """
    found = _ADDRESS.fullmatch(str(path).rstrip("/"))
    if not found:
        raise InputError(f"{path} is not an address of a model on the hub; {_EXAMPLE}")
    return Address(found[1], found[2], found[3])


def fetch(path: str | Path) -> Path:
    """The local file of an address, downloaded unless it is in the cache.

    Raises:
        InputError: no such repository, revision or file, no rights, no network and not in the cache.
    """
    from huggingface_hub import hf_hub_download

    repository, revision, file = parse(path)

    def download(name: str) -> Path:
        return Path(hf_hub_download(repository, name, revision=revision, endpoint=endpoint()))

    with explained(repository, f"{file or RELEASE} of hf://{repository} cannot be read"):
        return download(file) if file else _weights_and_config(download)


def _weights_and_config(download: Callable[[str], Path]) -> Path:
    """The weights of a repository, with its config.json, if any, next to them."""
    from huggingface_hub.errors import EntryNotFoundError

    with contextlib.suppress(EntryNotFoundError):
        download(CONFIG)
    try:
        return download(WEIGHTS[0])
    except EntryNotFoundError as missing:
        with contextlib.suppress(EntryNotFoundError):
            return download(WEIGHTS[1])
        raise missing


def model_file(folder: Path) -> Path | None:
    """The file with the weights in a folder that was copied from the hub; None if it has another form."""
    if (folder / RELEASE).is_file():
        return folder / RELEASE
    found = folder / WEIGHTS[1]
    return found if found.is_file() and (folder / CONFIG).is_file() else None


def located(name: str | Path) -> Path:
    """The local file of the weights of one network.

    Args:
        name: a file, a folder copied from the hub, or an address.

    Raises:
        InputError: no such file, folder or repository, or one without weights.
    """
    if is_hub(name):
        return fetch(name)
    path = Path(name).expanduser()
    if not path.exists():
        raise InputError(
            f"there is no file or folder {path}; weights are a file, a folder or hf://OWNER/NAME"
        )
    found = path if path.is_file() else model_file(path)
    if found is None:
        raise InputError(f"{path} has no {RELEASE}; copy it there, or name a file")
    return found


def plain_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of one network in a file, without what wrappers added to its names.

    Raises:
        InputError: the file holds something else.
    """
    content: Any = nested_state(with_averages(without_wrappers(read_file(path))[0], path))
    weights = without_holder(content) if isinstance(content, dict) else {}
    weights = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    if not weights:
        raise InputError(f"{path} holds a {type(content).__name__} instead of weights by name")
    return weights


def results_folder(source: str | Path) -> Path:
    """Folder below which results about a model or about saved predictions are written: a run folder itself, a
    folder next to a file, `runs/<name>` for a model on the hub.
    """
    if is_hub(source):
        return Path("runs") / parse(source).repository.partition("/")[2]
    source = Path(source)
    return source if source.is_dir() else source.parent / source.stem


def endpoint() -> str | None:
    """The server, if it is not the public hub."""
    return os.environ.get("HF_ENDPOINT") or None


@contextlib.contextmanager
def explained(repository: str, failed: str) -> Iterator[None]:
    """Replace an error of the hub by one sentence.

    Args:
        repository: `owner/name`.
        failed: beginning of the sentence: what could not be done.

    Raises:
        InputError: the reason and the fix.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the hub's errors, and those of the HTTP library under it
        reason = _reason(error, repository)
        if reason is None:
            raise
        raise InputError(f"{failed}: {reason}") from error


def _reason(error: Exception, repository: str) -> str | None:
    """Reason and fix of an error; None for one that is not the hub's."""
    names = [cls.__name__ for cls in type(error).__mro__]
    status = getattr(getattr(error, "response", None), "status_code", None)
    log_in = "log in with hf auth login, or set HF_TOKEN to a token with the right to it"
    if "HFValidationError" in names:
        return f"'{repository}' is not a name on the hub; {_EXAMPLE}"
    if "GatedRepoError" in names:
        return f"its owner grants access; ask for it on the page of {repository}, then {log_in}"
    if "LocalEntryNotFoundError" in names or "OfflineModeIsEnabled" in names:
        return "there is no network, and it is not in the cache; connect, or name a folder with its files"
    if "RevisionNotFoundError" in names:
        return "there is no such revision; leave out @REVISION for the default branch"
    if "RepositoryNotFoundError" in names:
        return f"there is no repository {repository}, or it is private; check the name, or {log_in}"
    if "EntryNotFoundError" in names:
        return "there is no such file; name one that the repository has, hf://OWNER/NAME/FILE"
    if status in (401, 403) or "LocalTokenNotFoundError" in names:
        return f"the server refuses it for lack of rights; {log_in}"
    if "HfHubHTTPError" in names:
        return f"the server answers with status {status}; try again later"
    if {"TransportError", "ConnectionError", "Timeout"} & set(names):
        return "the server does not answer; check the network and $HF_ENDPOINT"
    return None
