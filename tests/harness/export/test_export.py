"""Artefacts score the test split as their runs did, on their own, and are refused where they do not."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import run_bench
from baselines.kernels.operators import OPERATORS
from datasets.prepare.buckets import formula
from datasets.prepare.pipeline import prepare
from datasets.source import Source
from files.checksums import sha256_of
from files.errors import InputError, RefusedError
from harness.export import formats, parity
from harness.export import run as exporting
from harness.export.engine import load, receive, send
from harness.export.formats import FORMATS, Format, foreign_operators, format_called, traced
from harness.export.run import batches, export_run, parity_of, served, trained_run
from harness.export.served import Input
from harness.records.folder import RunFolder
from harness.records.record import read_record
from harness.training.prediction import Predictions
from harness.training.weights import WEIGHTS_FILE
from tests.harness.conftest import small_table
from tests.harness.schemas import small_schema
from tests.harness.small_runs import carry_out, small_spec

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in FORMATS["onnx"].packages),
    reason="needs the extra 'export' (make test installs it)",
)
EXPERTS = {"model_dim": 12, "ffn_dim": 16, "num_layers": 1, "moe": {"num_experts": 4, "active_ratio": 0.5}}


def finished(spec, prepared, out: Path) -> Path:
    carry_out(spec, prepared, out, keeps_weights=True)
    return RunFolder(out, spec.folder_name).final


@pytest.fixture(scope="module")
def dense_run(prepared, tmp_path_factory) -> Path:
    """A run of DLRM-MLP, whose lists are pooled by their mean."""
    return finished(small_spec(prepared, epochs=1), prepared, tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module")
def cache(prepared) -> Path:
    return prepared.path.parent


@pytest.fixture(scope="module")
def onnx(dense_run, cache):
    return export_run(dense_run, "onnx", False, None, cache)


def scores_of_run(run: Path) -> np.ndarray:
    table = pq.read_table(run / "predictions.parquet")
    return np.stack([table[f"score_{task}"].to_numpy() for task in ("finish", "skip")], axis=1)


def test_the_graph_of_experts_and_attention_scores_as_the_run_that_computes_open_ones_alone(
    prepared, cache, tmp_path
):
    spec = small_spec(prepared, epochs=1, architecture="rankmixer")
    spec = spec.model_copy(update={"target_attention": True, "config": EXPERTS})
    run = finished(spec, prepared, tmp_path)
    trained = trained_run(run, read_record(run), cache)
    model, inputs, output = served(trained, dense_only=False)
    graph = traced(model, inputs).module()
    batch = next(batches(trained, dense_only=False))
    assert list(batch) == [given.name for given in inputs]
    assert output == "probabilities"
    for rows in (1, 200):
        part = [torch.from_numpy(values[:rows]) for values in batch.values()]
        np.testing.assert_allclose(graph(*part).detach().numpy(), scores_of_run(run)[:rows], atol=1e-6)


@needs_onnx
def test_an_onnx_artefact_states_its_inputs_and_scores_any_number_of_rows(onnx, dense_run, prepared, cache):
    manifest = json.loads((onnx.folder / "manifest.json").read_text())
    assert [given["name"] for given in manifest["inputs"]] == [
        *("ids_user", "ids_item", "ids_genres", "length_genres", "ids_history", "length_history"),
        *("ids_past_genres", "length_past_genres", "numbers"),
    ]
    shapes = {given["name"]: given["shape"] for given in manifest["inputs"]}
    assert (shapes["ids_user"], shapes["ids_genres"], shapes["numbers"]) == (
        ["batch"],
        ["batch", 3],
        ["batch", 2],
    )
    assert {table: entry["rows"] for table, entry in manifest["vocabularies"].items()} == prepared.table_sizes
    for entry in manifest["vocabularies"].values():
        assert (onnx.folder / entry["file"]).is_file()
    assert manifest["files"]["model.onnx"] == sha256_of(onnx.folder / "model.onnx")
    assert manifest["dataset_fingerprint"] == prepared.fingerprint
    assert onnx.folder == dense_run.parent.parent / "export" / dense_run.name / "onnx"
    assert (onnx.parity.rows, onnx.parity.score_difference < 1e-6) == (prepared.rows["test"], True)

    engine, expected = load(onnx.folder), scores_of_run(dense_run)
    trained = trained_run(dense_run, read_record(dense_run), cache)
    batch = next(batches(trained, dense_only=False))
    for start, stop in ((0, 1), (3, 10), (0, len(batch["ids_user"]))):
        part = {name: values[start:stop] for name, values in batch.items()}
        np.testing.assert_allclose(engine(part), expected[start:stop], atol=1e-6)


def test_the_manifest_states_how_hashed_ids_become_indices(tmp_path):
    features = [
        feature.model_copy(update={"hash_buckets": 20 if feature.name == "user" else None})
        for feature in small_schema().features
    ]
    source = Source(small_schema().model_copy(update={"features": features}), small_table(600).lazy(), {})
    data = prepare(source, tmp_path / "cache" / "hashed", shard_rows=100)
    run = finished(small_spec(data, epochs=1), data, tmp_path / "out")
    artefact = export_run(run, "torch-export", False, None, data.path.parent)
    stated = artefact.manifest["vocabularies"]
    assert stated["user"] == {"rows": 22, "file": None, "hash_buckets": 20, "hash": formula()}
    assert stated["item"] == {"rows": data.table_sizes["item"], "file": "vocabulary/item.parquet"}


@needs_onnx
def test_an_artefact_with_one_wrong_weight_is_refused(onnx, dense_run, cache, tmp_path):
    from onnx import load as read_onnx
    from onnx import numpy_helper, save

    altered = shutil.copytree(onnx.folder, tmp_path / "altered")
    model = read_onnx(altered / "model.onnx")
    weight = next(w for w in model.graph.initializer if "towers" in w.name and w.dims == [1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(1e-3), weight.name))
    save(model, altered / "model.onnx")
    with pytest.raises(ValueError, match="was changed since it was exported"):
        load(altered)
    manifest = json.loads((altered / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = sha256_of(altered / "model.onnx")
    (altered / "manifest.json").write_text(json.dumps(manifest))
    trained = trained_run(dense_run, read_record(dense_run), cache)
    with pytest.raises(RefusedError, match=r"scores differ .* by up to 0\.000\d+, more than 1e-05"):
        parity_of(altered, trained, False, dense_run)


@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs g++")
def test_a_compiled_dense_side_takes_tokens(dense_run, cache, tmp_path):
    artefact = export_run(dense_run, "aoti", True, tmp_path / "here", cache)
    assert artefact.folder == tmp_path / "here"
    [given] = artefact.manifest["inputs"]
    assert (given["name"], given["shape"]) == ("tokens", ["batch", 3, 16])
    assert artefact.manifest["output"]["name"] == "logits"
    assert artefact.parity.score_difference < 1e-6


# What is refused ------------------------------------------------------------------------------------------


@needs_onnx
def test_what_fails_its_check_leaves_the_artefact_before_it_alone(dense_run, cache, tmp_path, monkeypatch):
    out = tmp_path / "artefact"
    out.mkdir()
    (out / "manifest.json").write_text("{}")
    garbage = Format("model.onnx", lambda program, path, inputs, output: path.write_bytes(b"no model"))
    monkeypatch.setitem(FORMATS, "onnx", garbage)
    monkeypatch.setattr(exporting, "traced", lambda model, inputs: None)
    with pytest.raises(RefusedError, match="the artefact does not run on its own: "):
        export_run(dense_run, "onnx", False, out, cache)
    assert {path.name for path in tmp_path.iterdir()} == {"artefact", ".artefact.lock"}
    assert (out / "manifest.json").read_text() == "{}"
    assert run_bench._explain(RefusedError("no")) == 1


def test_a_graph_with_an_operator_of_this_project_is_seen():
    class Fused(nn.Module):
        def forward(self, tokens):
            up, bias = torch.ones(2, 3, 4), torch.ones(2, 1, 4)
            return OPERATORS.per_token_ffn(tokens, up, bias, up.transpose(1, 2), None)

    program = torch.export.export(Fused(), (torch.ones(5, 2, 3),))
    assert foreign_operators(program) == ["rankmixer_bench.per_token_ffn.default"]


def test_a_model_that_branches_on_values_is_refused_in_a_sentence():
    class Branching(nn.Module):
        def forward(self, tokens):
            return tokens if tokens.sum() > 0 else -tokens

    with pytest.raises(InputError, match="the model cannot be traced"):
        traced(Branching(), [Input("tokens", "float32", (2,), "")])


def test_what_a_format_cannot_express_is_refused_in_a_sentence(tmp_path):
    def fail(program, path, inputs, output):
        raise NotImplementedError("no such\noperator")

    with pytest.raises(InputError, match=r"--format onnx: cannot write this model .* no such operator\)"):
        exporting.write(Format("model.onnx", fail), "onnx", None, tmp_path, [], "logits")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(InputError, match=r"needs onnxscript; install the extra: pip install .*\[export\]"):
        format_called("onnx")


def test_what_cannot_be_exported_says_why(dense_run, cache, tmp_path):
    suite = tmp_path / "quick"
    (suite / "runs").mkdir(parents=True)
    for given, message in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, r"is no finished run's folder .*; name one, as in out/quick/runs/<run>$"),
        (suite, rf"name one, as in {re.escape(str(suite))}/runs/<run>$"),
        (
            without_weights(dense_run, tmp_path / "light"),
            "keeps no weights .* run the suite again with --keep weights",
        ),
    ):
        with pytest.raises(InputError, match=message):
            export_run(given, "torch-export", False, None, cache)
    with pytest.raises(InputError, match="holds no prepared small of fingerprint"):
        export_run(dense_run, "torch-export", False, tmp_path / "out", tmp_path)
    with pytest.raises(InputError, match="choose from torch-export, aoti, onnx"):
        export_run(dense_run, "tensorrt", False, None, cache)
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="holds something else than an artefact"):
        export_run(dense_run, "torch-export", False, tmp_path / "taken", cache)


def without_weights(run: Path, folder: Path) -> Path:
    copy = shutil.copytree(run, folder / "runs" / run.name)
    (copy / WEIGHTS_FILE).unlink()
    return copy


def test_altered_predictions_are_no_measure(dense_run, cache, tmp_path):
    run = shutil.copytree(dense_run, tmp_path / dense_run.name)
    with open(run / "predictions.parquet", "ab") as handle:
        handle.write(b"x")
    with pytest.raises(InputError, match=r"predictions\.parquet: was changed"):
        exporting.kept_predictions(run, trained_run(run, read_record(run), cache))


# The check ------------------------------------------------------------------------------------------------


def predictions(labels, scores) -> Predictions:
    rows = len(labels)
    return Predictions(np.zeros(rows, int), np.zeros(rows, int), labels, scores, None)


def test_an_auc_may_move_by_a_millionth_or_by_two_pairs_of_rows():
    few = np.array([[1.0]] * 3 + [[0.0]] * 7)
    assert parity.auc_bound(few) == 2 / 21
    many = np.array([[1.0]] * 2000 + [[0.0]] * 2000 + [[np.nan]] * 1000)
    assert parity.auc_bound(many) == 1e-6


def test_scores_that_are_close_may_still_rank_otherwise_and_are_refused():
    """Half of the rows lie within the bound of scores; their order is turned round."""
    labels = np.repeat([[1.0], [0.0]], 2000, axis=0)
    before = np.linspace(0.5, 0.500004, 4000)[:, None]
    assert parity.check(predictions(labels, before), "the run", before, ["a"]).score_difference == 0
    with pytest.raises(RefusedError, match=r"AUC of a is 1\.0+, and that of the run 0\.0+"):
        parity.check(predictions(labels, before), "the run", before[::-1], ["a"])


@pytest.mark.parametrize("wrong", [np.full((4, 1), np.nan), np.ones((3, 1))])
def test_scores_that_are_no_numbers_or_too_few_are_refused(wrong):
    labels, before = np.array([[1.0], [0], [1], [0]]), np.full((4, 1), 0.5)
    with pytest.raises(RefusedError):
        parity.check(predictions(labels, before), "the run", wrong, ["a"])


def test_the_first_row_goes_through_alone():
    given = [{"x": np.arange(5), "y": np.arange(5)}, {"x": np.arange(5, 8), "y": np.arange(5, 8)}]
    parts = list(parity.first_row_alone(given))
    assert [len(part["y"]) for part in parts] == [1, 4, 3]
    assert list(itertools.chain(*(part["x"] for part in parts))) == list(range(8))


def test_arrays_go_through_a_pipe_as_they_are_and_nothing_else_does():
    pipe = io.BytesIO()
    send(pipe, ids_a=np.arange(3), x=np.ones((3, 2), np.float32))
    send(pipe, ids_a=np.zeros(0, np.int64))
    whole = pipe.getvalue()
    pipe.seek(0)
    first, second = receive(pipe), receive(pipe)
    assert list(first) == ["ids_a", "x"]
    assert (first["x"].dtype, first["x"].shape, len(second["ids_a"])) == (np.float32, (3, 2), 0)
    for ended in (b"", whole[:5]):
        with pytest.raises(EOFError):
            receive(io.BytesIO(ended))
    objects = io.BytesIO()
    send(objects, x=np.array([{}], dtype=object))
    objects.seek(0)
    with pytest.raises(ValueError, match="allow_pickle"):
        receive(objects)


def test_weights_of_edited_code_are_refused_by_name(dense_run, cache, tmp_path):
    run = shutil.copytree(dense_run, tmp_path / dense_run.name)
    kept = torch.load(run / WEIGHTS_FILE)
    kept["model"]["dense.backbone.gone"] = torch.ones(1)
    torch.save(kept, run / WEIGHTS_FILE)
    with pytest.raises(InputError, match=r"weights\.pt: does not fit the code of 'dlrm_mlp'"):
        trained_run(run, read_record(run), cache)
