"""A local S3 server for tests: moto's, with one bucket."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator

import pytest

from tests import runs

KEY = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


class Server:
    """moto's S3 server with one bucket, `runs`; it can be stopped, and started again at the same port."""

    def __init__(self) -> None:
        import boto3

        self.port = runs.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()
        self.client = boto3.client("s3", endpoint_url=self.url)
        self.client.create_bucket(Bucket="runs")

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def names(self, prefix: str = "") -> set[str]:
        found = self.client.list_objects_v2(Bucket="runs", Prefix=prefix).get("Contents", [])
        return {item["Key"].removeprefix(prefix) for item in found}

    def content(self, name: str) -> bytes:
        return self.client.get_object(Bucket="runs", Key=name)["Body"].read()


@contextlib.contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server that the environment names; the test is skipped if a package of it is missing."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    server = Server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    yield server
    urllib.request.urlopen(f"{server.url}/moto-api/reset", b"")  # its servers share one content
    server.stop()
