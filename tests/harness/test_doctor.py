"""The doctor names what is there, and what is missing with its mend."""

import importlib.metadata

from harness import doctor


def test_a_machine_that_runs_the_tests_lacks_nothing_but_perhaps_a_compiler():
    text, healthy = doctor.examine()
    assert f"torch         {importlib.metadata.version('torch')}" in text
    assert "cores" in text
    assert healthy == ("missing:" not in text)


def test_a_missing_package_and_compiler_come_with_their_mend(monkeypatch):
    version = importlib.metadata.version

    def without_polars(package: str) -> str:
        if package == "polars":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without_polars)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    text, healthy = doctor.examine()
    assert not healthy
    assert "missing: polars; make setup" in text
    assert "missing: a C++ compiler" in text
