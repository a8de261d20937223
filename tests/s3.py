"""An S3 server of this process, without a network: moto's, which knows conditional writes and rights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import requests

BUCKET = "bench"


class Server:
    """It has one bucket, and keeps what it holds while it is away; its address stays the same."""

    def __init__(self) -> None:
        self._port = 0
        self.come_back()
        _, self._port = self._server.get_host_and_port()
        self.address = f"http://127.0.0.1:{self._port}"
        requests.put(f"{self.address}/{BUCKET}", timeout=10).raise_for_status()

    def go_away(self) -> None:
        self._server.stop()

    def come_back(self) -> None:
        from moto.server import ThreadedMotoServer  # late, since it may be missing

        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.start()

    def environment(self) -> dict[str, str]:
        """What leads fsspec to it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "me",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The server's address; its credentials are in the environment."""
    if find_spec("moto") is None or find_spec("s3fs") is None:
        pytest.skip("SKIPPED: no S3 server; pip install -c requirements/lock.txt -e '.[dev,s3]'")
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # of another module's server
    server = Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server.address
    server.go_away()


@pytest.fixture
def url(endpoint, tmp_path) -> str:
    """A folder in the bucket that no other test uses."""
    return f"s3://{BUCKET}/{tmp_path.name}"


@contextlib.contextmanager
def without_rights(endpoint: str) -> Iterator[None]:
    """While this lasts, the server knows nobody."""
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
    try:
        yield
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data="inf", timeout=10).raise_for_status()
