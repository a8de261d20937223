"""An S3 server of this process, without a network: moto's, which knows conditional writes and rights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import requests

BUCKET = "bench"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The server's address; it has one bucket, and its credentials are in the environment."""
    if find_spec("moto") is None or find_spec("s3fs") is None:
        pytest.skip("SKIPPED: no S3 server; pip install -c requirements/lock.txt -e '.[dev,s3]'")
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # of another module's server
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with contextlib.redirect_stdout(io.StringIO()):
        server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    requests.put(f"{address}/{BUCKET}", timeout=10).raise_for_status()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "me")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield address
    server.stop()


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
