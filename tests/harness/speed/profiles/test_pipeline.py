"""Plain PyTorch computes what the harness does, and the figures are of what they say."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from datasets.reader import ShardReader
from files.errors import InputError
from harness.runs.run import build_model
from harness.speed.profiles import pipeline
from harness.speed.profiles.pipeline import STAGES, profile_pipeline
from harness.speed.profiles.plain_torch import PlainTraining, by_feature
from tests.forked import forked_pool
from tests.harness.small_runs import ONE_PROCESS, small_spec


def test_plain_pytorch_predicts_the_same_from_the_same_weights(prepared):
    spec = small_spec(prepared)
    ours = build_model(spec, prepared, ONE_PROCESS).eval()
    plain = PlainTraining(spec, prepared, num_rows=256, by_row=False)
    plain.dense.load_state_dict(ours.dense.state_dict())
    tables = {name.split(".")[-2]: value for name, value in ours.state_dict().items() if "bags" in name}
    for feature in prepared.schema.sparse_features:
        with torch.no_grad():
            plain.embeddings.tables[feature.name].weight.copy_(tables[feature.table])
    numbers, labels, *sparse = (column[:128] for column in plain.rows.tensors)
    # The rows in memory are the reader's, in file order.
    batches = list(islice(_in_order(spec, prepared), 2))
    with torch.no_grad():
        expected = torch.cat([ours(batch).logits for batch in batches])
        found = plain.dense(plain.embeddings(by_feature(plain.features, list(sparse))), numbers).logits
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(labels, torch.cat([b.labels for b in batches]), equal_nan=True)


def _in_order(spec, prepared):
    return ShardReader(prepared, "train", spec.training.batch_size, spec.tasks).batches()


@pytest.mark.parametrize("by_row", [True, False])
def test_an_epoch_has_every_row_once_but_for_a_short_batch(by_row, prepared):
    plain = PlainTraining(small_spec(prepared), prepared, num_rows=320, by_row=by_row)
    numbers = torch.cat([batch[0] for batch in plain.batches()])
    assert len(numbers) == 320
    assert sorted(map(tuple, numbers.tolist())) == sorted(map(tuple, plain.rows.tensors[0].tolist()))
    assert not torch.equal(numbers, plain.rows.tensors[0])


def test_plain_training_learns(prepared):
    plain = PlainTraining(small_spec(prepared), prepared, num_rows=512, by_row=False)
    losses = [float(plain.step(batch)) for _ in range(12) for batch in plain.batches()]
    assert sum(losses[-8:]) < 0.97 * sum(losses[:8])


def test_figures_are_ratios_of_rates_and_shares_of_a_whole(prepared, monkeypatch):
    """Ours in a process begun as users begin it; the other two in forked ones, which need not import."""
    processes = iter([pipeline._process, forked_pool, forked_pool])
    monkeypatch.setattr(pipeline, "_process", lambda: next(processes)())
    found = {
        f["name"]: f
        for f in profile_pipeline(small_spec(prepared), prepared, "x.", "c", steps=2, repeats=1, rows=256)
    }
    ours = found["x.pipeline_samples_per_second"]["value"]
    for other, ratio in (("plain", "plain"), ("indexed", "indexed")):
        speedup = found[f"x.pipeline_speedup_over_{ratio}_torch"]["value"]
        assert speedup == pytest.approx(ours / found[f"x.{other}_torch_samples_per_second"]["value"])
    shares = [found[f"x.pipeline_{stage}_share"]["value"] for stage in STAGES]
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) > 0


def test_target_attention_is_refused_with_the_mend(prepared):
    spec = small_spec(prepared).model_copy(update={"target_attention": True})
    with pytest.raises(InputError, match="set target_attention to false"):
        PlainTraining(spec, prepared, num_rows=64, by_row=False)
