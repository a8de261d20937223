"""Look-ups against plain indexing; the fused update against Adagrad written out."""

import hashlib

import pytest
import torch
from torchrec import KeyedJaggedTensor

from datasets.schema import Schema
from harness.model.embeddings import Embeddings, attended_sequences, fill_initial_rows, masked_mean
from harness.training.ranks import initialise_tables, table_weights
from tests.forked import ROOT, Forked
from tests.harness.schemas import TABLE_SIZES, small_schema

FILL = """
import resource
import torch
from harness.model.embeddings import fill_initial_rows

weights = torch.ones(2**21, 16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fill_initial_rows(weights, 1, "item", 16)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""

ROWS = {
    "user": [[3], [4], [3]],
    "item": [[7], [0], [9]],
    "genres": [[2, 3, 3], [], [5]],
    "history": [[7, 9], [1], []],
    "past_genres": [[5], [], [2, 5]],
}


def jagged(schema: Schema, rows: dict[str, list[list[int]]]) -> KeyedJaggedTensor:
    keys = [feature.name for feature in schema.sparse_features]
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.tensor([value for key in keys for row in rows[key] for value in row]),
        lengths=torch.tensor([len(row) for key in keys for row in rows[key]], dtype=torch.int32),
    )


def built(
    target_attention: bool, optimizer: str | None = "adagrad", schema: Schema | None = None
) -> Embeddings:
    embeddings = Embeddings(
        schema or small_schema(),
        TABLE_SIZES,
        optimizer=optimizer,
        learning_rate=0.05,
        target_attention=target_attention,
    )
    initialise_tables(embeddings, seed=1)
    return embeddings


def weights(embeddings: Embeddings) -> dict[str, torch.Tensor]:
    named = table_weights(embeddings).items()
    return {key.split(".embedding_bags.")[1].removesuffix(".weight"): value.clone() for key, value in named}


@pytest.mark.parametrize("target_attention", [False, True])
def test_a_feature_is_the_mean_of_its_rows_and_zero_without_any(target_attention):
    embeddings = built(target_attention)
    tables = weights(embeddings)
    pooled = embeddings(jagged(small_schema(), ROWS)).pooled
    for feature in small_schema().sparse_features:
        if feature.name in pooled:
            for row, indices in enumerate(ROWS[feature.name]):
                expected = sum((tables[feature.table][i] for i in indices), torch.zeros(8)) / max(
                    len(indices), 1
                )
                torch.testing.assert_close(pooled[feature.name][row], expected)


def test_target_attention_leaves_the_sequence_that_shares_the_items_vocabulary_unpooled():
    embeddings = built(target_attention=True)
    item = weights(embeddings)["item"]
    looked_up = embeddings(jagged(small_schema(), ROWS))
    vectors, lengths = looked_up.sequences["history"]
    assert "history" not in looked_up.pooled
    assert lengths.tolist() == [2, 1, 0]
    torch.testing.assert_close(vectors[0, :2], item[[7, 9]])
    torch.testing.assert_close(vectors[1, 0], item[1])
    pairs = [(pair.sequence.name, pair.target.name) for pair in attended_sequences(small_schema())]
    assert pairs == [("history", "item"), ("past_genres", "genres")]


def of_width(width: int) -> Schema:
    schema = small_schema()
    features = [
        feature.model_copy(update={"embedding_dim": width}) if feature.is_sparse else feature
        for feature in schema.features
    ]
    return schema.model_copy(update={"features": features})


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", None])
@pytest.mark.parametrize("target_attention", [False, True])
def test_a_width_of_ten_is_looked_up_and_trained_as_ten_and_starts_as_ten(optimizer, target_attention):
    """Whatever stands behind the ten numbers in a table is zero, before and after an update."""
    embeddings = built(target_attention, optimizer, of_width(10))
    before = weights(embeddings)
    assert torch.equal(before["item"][:, :10], initial_rows(1, "item", 40, 10))
    looked_up = embeddings(jagged(of_width(10), ROWS))
    assert {vectors.shape for vectors in looked_up.pooled.values()} == {(3, 10)}
    if target_attention:
        assert looked_up.sequences["history"][0].shape == (3, 5, 10)
    torch.testing.assert_close(looked_up.pooled["item"][0], before["item"][7, :10])
    looked_up.pooled["item"].sum().backward()
    table = weights(embeddings)["item"]
    assert not table[:, 10:].any()
    if optimizer is not None:
        moved = before["item"][7, :10] - table[7, :10]
        torch.testing.assert_close(
            moved, torch.full((10,), 0.05)
        )  # both have a step of lr for a gradient of 1


@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad"])
@pytest.mark.parametrize("target_attention", [False, True])
def test_backward_applies_adagrad_to_the_rows_that_were_looked_up(optimizer, target_attention):
    embeddings = built(target_attention, optimizer)
    before = weights(embeddings)
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(8, generator=generator)
    looked_up = embeddings(jagged(small_schema(), ROWS))
    (looked_up.pooled["item"] @ factor).sum().backward()
    after = weights(embeddings)
    gradient = torch.zeros_like(before["item"])
    for (index,) in ROWS["item"]:
        gradient[index] += factor
    squares = gradient**2 if optimizer == "adagrad" else (gradient**2).mean(1, keepdim=True)
    expected = before["item"] - 0.05 * gradient / (squares.sqrt() + 1e-8)
    torch.testing.assert_close(after["item"], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after["user"], before["user"])


def initial_rows(seed: int, table: str, rows: int, dim: int) -> torch.Tensor:
    """As written out: blocks of 4096 rows, of a generator each, put together and then scaled."""
    blocks = []
    for block in range(rows // 4096 + 1):
        digest = hashlib.sha256(f"{seed}/{table}/{block}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        blocks.append(torch.randn(4096, dim, generator=generator))
    whole = torch.cat(blocks)[:rows] * (0.1 / dim**0.5)
    whole[:2] = 0.0
    return whole


@pytest.mark.parametrize(
    ("first_row", "rows", "columns"),
    [
        (0, 10_000, slice(0, 12)),
        (0, 1, slice(0, 12)),
        (1, 3, slice(0, 12)),
        (4000, 200, slice(0, 12)),
        (4096, 4096, slice(4, 8)),
        (5000, 0, slice(0, 12)),
        (8191, 1809, slice(6, 12)),
    ],
)
def test_any_part_of_a_table_starts_with_the_bits_of_the_whole(first_row, rows, columns):
    whole = initial_rows(7, "item", 10_000, 12)
    part = torch.full((rows, columns.stop - columns.start), torch.nan)
    fill_initial_rows(part, 7, "item", 12, first_row, columns.start)
    assert torch.equal(part, whole[first_row : first_row + rows, columns])


def test_initial_rows_differ_by_seed_and_table_and_are_zero_for_what_training_never_meets():
    whole = initial_rows(7, "item", 10_000, 8)
    for seed, table in ((8, "item"), (7, "user")):
        other = torch.empty(100, 8)
        fill_initial_rows(other, seed, table, 8)
        assert not torch.equal(other, whole[:100])
    assert abs(float(whole.std()) * 8**0.5 - 0.1) < 0.005
    assert not whole[:2].any()
    assert whole[2].any()


def test_no_table_is_held_twice_while_it_is_filled():
    """By the memory that the process takes from the system: an eighth of the table's at most."""
    said, problem = (process := Forked(FILL, ROOT)).communicate()
    assert process.returncode == 0, problem
    assert int(said) < 2**27 // 8


def test_masked_mean_ignores_what_lies_beyond_the_length():
    vectors = torch.arange(12.0).reshape(2, 3, 2)
    result = masked_mean(vectors, torch.tensor([2, 0]))
    torch.testing.assert_close(result, torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
