"""Requests of one user, and engines that score as the eager model or are refused."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

import harness.export.formats
import harness.serving.profile
from files.errors import InputError, RefusedError
from harness.export.served import WholeModel, arrays_of, inputs_of
from harness.records.serving_profile import ProfiledEngine
from harness.runs.run import build_model
from harness.serving.engines import Conditions, engine, require_engines, score_difference
from harness.serving.profile import Scenario, profile_engine
from harness.serving.requests import read_requests, user_features
from harness.speed.models import read_batches
from tests.harness.small_runs import ONE_PROCESS, small_spec

CPU = torch.device("cpu")
SHORT = Scenario(bound_seconds=0.5, seconds=0.3)


@pytest.fixture(scope="module")
def served(prepared):
    """A spec, a function that makes its model, the inputs and requests of 16 candidates."""
    spec = small_spec(prepared)
    model = build_model(spec, prepared, ONE_PROCESS).eval()
    requests = read_requests(spec, prepared, 16)
    return (
        model,
        lambda: WholeModel(model, prepared.schema, False).eval(),
        inputs_of(prepared.schema),
        requests,
    )


def who(name: str) -> ProfiledEngine:
    return ProfiledEngine(architecture="dlrm_mlp", spec_hash="0", engine=name, candidates=16)


def test_a_request_is_one_users_rows_with_the_candidates_of_the_data(prepared):
    spec = small_spec(prepared)
    assert user_features(prepared.schema) == ["user", "age", "history", "past_genres"]
    requests = read_requests(spec, prepared, 16)
    batches = read_batches(spec, prepared, 16, CPU)
    assert len(requests) == 64
    for request, batch in zip(requests, batches, strict=False):
        rows = arrays_of(batch, prepared.schema)
        for name in ("ids_item", "ids_genres", "length_genres"):
            np.testing.assert_array_equal(request[name], rows[name])
        for name in ("ids_user", "ids_history", "length_history", "ids_past_genres", "length_past_genres"):
            np.testing.assert_array_equal(request[name], np.stack([rows[name][0]] * 16))
        np.testing.assert_array_equal(request["numbers"][:, 0], np.full(16, rows["numbers"][0, 0]))  # age
        np.testing.assert_array_equal(request["numbers"][:, 1], rows["numbers"][:, 1])  # price
    assert len({tuple(request["ids_item"]) for request in requests}) > 32


def test_where_no_group_tells_candidates_apart_they_keep_all_features(prepared):
    features = [feature.model_copy(update={"group": "mine"}) for feature in prepared.schema.features]
    assert user_features(prepared.schema.model_copy(update={"features": features})) == []


def test_more_candidates_than_rows_are_refused(prepared):
    with pytest.raises(InputError, match=r"--candidates 9999: the training split of 'small' has \d+ rows"):
        read_requests(small_spec(prepared), prepared, 9999)


def test_the_eager_engine_gives_the_models_probabilities(prepared, served):
    model, make, inputs, _ = served
    answer = engine("eager", make(), inputs, Conditions(CPU), {}, None)
    for batch in read_batches(small_spec(prepared), prepared, 16, CPU)[:3]:
        with torch.no_grad():
            expected = torch.sigmoid(model(batch).logits).numpy()
        np.testing.assert_allclose(answer(arrays_of(batch, prepared.schema)), expected, atol=1e-6)


def test_bf16_holds_weights_and_numbers_in_bf16_and_scores_nearly_the_same(served):
    _, make, inputs, requests = served
    exact = engine("eager", make(), inputs, Conditions(CPU), requests[0], None)
    coarse = engine("eager", make(), inputs, Conditions(CPU, precision="bf16"), requests[0], None)
    found, expected = coarse(requests[0]), exact(requests[0])
    assert found.dtype == np.float32
    assert 0 < score_difference([found], [expected], "bf16") < 0.02
    with pytest.raises(RefusedError, match="differ from the eager model's by up to"):
        score_difference([found], [expected], "fp32")


def test_both_scenarios_of_an_engine_are_measured(served, monkeypatch):
    monkeypatch.setattr("harness.serving.search.STEPS", 3)
    monkeypatch.setattr("harness.serving.search.FEWEST_REQUESTS", 5)  # a busy machine answers few
    _, make, inputs, requests = served
    found = profile_engine(who("eager"), make(), inputs, requests, Conditions(CPU), SHORT)
    assert (found.refused, found.score_difference) == ("", 0)
    # A busy machine shifts both; a wrong unit would shift one a thousandfold.
    assert 0.05 < found.candidates_per_second * found.alone_ms_p50 / 16e3 < 20
    assert found.qps_low <= found.qps <= found.qps_high
    assert found.loads
    for load in found.loads:
        assert load.latency_ms_p99_low is None or load.latency_ms_p99_low <= load.latency_ms_p99
        assert load.compute_ms_p50 <= load.latency_ms_p50
        assert load.latency_ms_p99 <= load.queue_ms_p99 + load.compute_ms_p99 + 1e3


def test_onnx_runtime_scores_the_same(served, tmp_path):
    pytest.importorskip("onnxruntime")
    _, make, inputs, requests = served
    exact = engine("eager", make(), inputs, Conditions(CPU), requests[0], None)
    answer = engine("onnx", make(), inputs, Conditions(CPU), requests[0], tmp_path)
    found = [answer(request) for request in requests[:4]]
    assert score_difference(found, [exact(request) for request in requests[:4]], "fp32") <= 1e-5


def test_an_engine_whose_scores_differ_is_refused_and_not_timed(served, monkeypatch):
    _, make, inputs, requests = served

    def wrong(name, *rest):
        answer = engine("eager", *rest)
        return answer if name == "eager" else lambda request: answer(request) + 1e-4

    def nan(name, *rest):
        answer = engine("eager", *rest)
        return answer if name == "eager" else lambda request: answer(request) * np.nan

    for fault in (wrong, nan):
        monkeypatch.setattr(harness.serving.profile, "engine", fault)
        found = profile_engine(who("compile"), make(), inputs, requests, Conditions(CPU), SHORT)
        assert "its scores differ from the eager model's by up to" in found.refused
        assert (found.qps, found.candidates_per_second, found.loads) == (None, None, [])


@pytest.mark.parametrize("at", ["building", "the first call"])
def test_a_model_that_an_engine_cannot_express_is_refused_and_ends_nothing(at, served, monkeypatch):
    _, make, inputs, requests = served

    def fails(*_):
        cause = RuntimeError("\x1b[31mNo decompositions\x1b[0m of\n  special_bessel_j0")
        raise ValueError("This is step 3/3 of exporting the model") from cause

    def faulty(name, *rest):
        if name == "eager":
            return engine("eager", *rest)
        return fails() if at == "building" else fails

    monkeypatch.setattr(harness.serving.profile, "engine", faulty)
    found = profile_engine(who("onnx"), make(), inputs, requests, Conditions(CPU), SHORT)
    reason = "RuntimeError: No decompositions of special_bessel_j0"
    assert found.refused == f"the engine cannot compute it ({reason})"
    assert (found.qps, found.loads) == (None, [])


def test_a_full_disk_is_no_engine_s_fault(served, monkeypatch):
    _, make, inputs, requests = served

    def faulty(name, *rest):
        if name == "eager":
            return engine("eager", *rest)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(harness.serving.profile, "engine", faulty)
    with pytest.raises(OSError, match="No space left"):
        profile_engine(who("onnx"), make(), inputs, requests, Conditions(CPU), SHORT)


@pytest.mark.parametrize(
    ("names", "changes", "said"),
    [
        (["tensorrt"], {}, "--engine tensorrt: choose from eager, compile, aoti, onnx"),
        (["eager"], {"precision": "fp8"}, "--precision fp8: choose from fp32, bf16"),
        (["eager"], {"cuda_graphs": True}, "--cuda-graphs: the cpu has none"),
        (["eager", "onnx"], {"precision": "bf16"}, "--engine onnx: computes in fp32 on the CPU"),
    ],
)
def test_engines_that_cannot_compute_so_are_refused(names, changes, said):
    with pytest.raises(InputError, match=said):
        require_engines(names, replace(Conditions(CPU), **changes))


def test_an_engine_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setattr(harness.export.formats, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--engine onnx: needs onnx.*; install the extra: pip install"):
        require_engines(["onnx"], Conditions(CPU))
    monkeypatch.setenv("CXX", "no-such-compiler")
    for name in ("compile", "aoti"):
        with pytest.raises(InputError, match=f"--engine {name}: needs a C"):
            require_engines([name], Conditions(CPU))
