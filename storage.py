"""A folder on S3-compatible storage, or wherever else fsspec reaches: another disk, sftp, Google Cloud.

    s3://bucket/prefix          credentials and endpoint as of every AWS tool: AWS_ACCESS_KEY_ID,
                                AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL
    file:///mnt/backup, a path  a plain folder

A file appears under its name when it is complete. An object store does that by itself; elsewhere the file is
sent under a temporary name first and then renamed. Errors are of two kinds: `Unreachable` may pass by itself
(network, full disk), an `InputError` needs a person (rights, bucket, package).
"""

from __future__ import annotations

import contextlib
import errno
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils import InputError

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs"}
S3 = {"s3", "s3a"}
# A dead connection is noticed within a minute; whoever sends tries again later.
TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 1}}
NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "CredentialRetrievalError",
}
MALFORMED = {"ParamValidationError", "InvalidEndpointURLError", "InvalidRegionError"}


class Unreachable(Exception):
    """The storage does not answer now; the message is the reason."""


class Storage:
    """One folder of a storage.

    Args:
        url: `s3://bucket/prefix`, another address that fsspec knows, or a path.

    Raises:
        InputError: an unknown kind of address, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url if url.endswith("://") else url.rstrip("/")
        self._files, self._root = _open(self.url)
        kinds = self._files.protocol
        self._kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        self._is_object_store, self._is_s3 = bool(self._kinds & OBJECT_STORES), bool(self._kinds & S3)
        if self._is_object_store and not self._root.strip("/"):
            raise InputError(f"{url} names no bucket; write s3://BUCKET/PREFIX")

    @property
    def local(self) -> Path | None:
        """The folder, if it is on this machine."""
        return Path(self._root) if "file" in self._kinds else None

    def sizes(self) -> dict[str, int]:
        """Name, relative to the folder, to size in bytes, of every complete file."""
        with self._explained("read"):
            if not self._is_object_store and not self._files.exists(self._root):
                return {}
            found = self._files.find(self._root, detail=True)
        start = len(self._root.rstrip("/")) + 1
        names = {path[start:]: facts["size"] for path, facts in found.items()}
        return {name: size for name, size in names.items() if not posixpath.basename(name).startswith(".")}

    def send(self, path: Path, name: str) -> None:
        """Store a local file as `name`.

        Raises:
            FileNotFoundError: the local file has gone.
        """
        with self._explained("written", path):
            if self._is_object_store:
                self._files.put_file(str(path), self._at(name))
                return
            partial = self._partial(name)
            self._files.put_file(str(path), partial)
            self._files.mv(partial, self._at(name))

    def copy(self, source: str, name: str) -> bool:
        """Store a stored file as `name` too, without sending it again; False if there is no such file."""
        with self._explained("written"):
            try:
                if self._is_object_store:
                    self._files.cp_file(self._at(source), self._at(name))
                    return True
                partial = self._partial(name)
                self._files.cp_file(self._at(source), partial)
                self._files.mv(partial, self._at(name))
                return True
            except FileNotFoundError:
                return False

    def remove(self, name: str) -> None:
        """Remove a file; it may have gone already."""
        with self._explained("written"), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to a local path, whose folder exists."""
        with self._explained("read"):
            self._files.get_file(self._at(name), str(path))

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is none."""
        with self._explained("read"):
            try:
                return self._files.cat_file(self._at(name))
            except FileNotFoundError:
                return None

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _partial(self, name: str) -> str:
        """A hidden name next to `name`, whose folder is made."""
        folder, _, base = self._at(name).rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        return f"{folder}/.{base}.part"

    @contextlib.contextmanager
    def _explained(self, done: str, local: Path | None = None) -> Iterator[None]:
        """Errors of the storage as `Unreachable` or as one sentence.

        Args:
            done: "read" or "written", for the sentence.
            local: local file that the block reads.
        """
        try:
            yield
        except (InputError, Unreachable):
            raise
        except Exception as error:  # fsspec's implementations share no base class of their errors
            if local is not None and isinstance(error, FileNotFoundError) and not local.exists():
                raise
            if words := self._needs_a_person(error):
                raise InputError(f"{self.url} cannot be {done}: {words}") from error
            raise Unreachable(_first_line(error)) from error

    def _needs_a_person(self, error: Exception) -> str | None:
        """Reason and fix of an error that does not pass by itself; None for the others."""
        name, number = type(error).__name__, getattr(error, "errno", None)
        if name in NO_CREDENTIALS:
            return "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        if isinstance(error, PermissionError):
            fix = "check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE) and the rights of their user"
            return f"{_first_line(error)}; {fix}" if self._is_s3 else _first_line(error)
        if isinstance(error, FileNotFoundError) and self._is_object_store:
            return f"there is no bucket '{self._root.partition('/')[0]}'; create it, or check its name"
        if name in MALFORMED or (self._is_s3 and number == errno.EINVAL):
            return f"{_first_line(error)}; check the address and AWS_ENDPOINT_URL"
        if isinstance(error, (NotADirectoryError, FileExistsError)) or number == errno.EROFS:
            return _first_line(error)
        return None


def _open(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    import fsspec

    wrong = f"{url} is not an address of a storage; write s3://BUCKET/PREFIX, file:///FOLDER or a path"
    if re.match(r"\w\w+:(?!//)", url):  # s3:/bucket would become a folder called "s3:"
        raise InputError(wrong)
    kind = url.partition("://")[0] if "://" in url else "file"
    settings: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if kind in S3:
        settings["config_kwargs"] = TIMEOUTS
    try:
        return fsspec.url_to_fs(url, **settings)
    except ImportError as error:
        package = 'pip install -e ".[s3]"' if kind in S3 else _first_line(error)
        raise InputError(f"{url} needs a package that is not installed: {package}") from None
    except ValueError:
        raise InputError(wrong) from None


def _first_line(error: BaseException) -> str:
    """The message of an error in one line, at most 200 characters."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200].rstrip(".")
