"""Every tokenizer's tokens are the embeddings, each once, in spans cut as its docstring says."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from datasets.schema import Feature, Schema
from files.errors import InputError
from harness.model.embeddings import LookedUp
from harness.model.tokens import (
    TOKEN_DIM_MULTIPLE,
    Inputs,
    NumericEmbedding,
    TargetAttention,
    Tokenizer,
    VectorEmbedding,
    deal_tokens,
    embedding_width,
    natural_num_tokens,
    spans,
    token_dim_for,
)
from tests.harness.schemas import small_schema

WIDTH = 48  # five sparse features of 8, two numbers of 4
GROUPS = {"user": 12, "item": 20, "sequence": 16}  # their widths


def inputs(num_tokens: int, token_dim: int, tokenizer: str = "chunks") -> Inputs:
    return Inputs(
        tokenizer=tokenizer,  # type: ignore[arg-type]
        num_tokens=num_tokens,
        token_dim=token_dim,
        target_attention=False,
        tower_dim=4,
    )


def random_inputs(schema: Schema, rows: int = 5) -> tuple[LookedUp, Tensor]:
    pooled = {feature.name: torch.randn(rows, feature.embedding_dim) for feature in schema.sparse_features}
    return LookedUp(pooled, {}), torch.randn(rows, len(schema.numeric_features))


def by_feature(tokenizer: Tokenizer, looked_up: LookedUp, numbers: Tensor) -> dict[str, Tensor]:
    """Every feature's (B, w) embedding of the small schema, the numbers' written out."""
    assert tokenizer.numeric is not None
    weight, bias = tokenizer.numeric.weight, tokenizer.numeric.bias
    age, price = numbers[:, :1] * weight[:4] + bias[:4], numbers[:, 1:] * weight[4:] + bias[4:]
    return looked_up.pooled | {"age": age, "price": price}


def zeros(width: int) -> Tensor:
    return torch.zeros(5, width)


# ---------------------------------------------------------------------------------------------- tokenizers


def test_chunks_are_the_groups_in_order_cut_evenly_and_padded():
    tokenizer = Tokenizer(small_schema(), inputs(3, 24))
    looked_up, numbers = random_inputs(small_schema())
    p = by_feature(tokenizer, looked_up, numbers)
    names = ("user", "age", "item", "genres", "price", "history", "past_genres")
    flat = torch.cat([p[name] for name in names], dim=1)
    by_hand = [torch.cat([flat[:, start : start + 16], zeros(8)], 1) for start in (0, 16, 32)]
    assert embedding_width(small_schema().features) == WIDTH
    torch.testing.assert_close(tokenizer(looked_up, numbers), torch.stack(by_hand, 1))


def test_chunks_that_hold_the_embeddings_exactly_are_the_slices_of_equation_2():
    tokenizer = Tokenizer(small_schema(), inputs(6, 8))
    looked_up, numbers = random_inputs(small_schema())
    p = by_feature(tokenizer, looked_up, numbers)
    names = ("user", "age", "item", "genres", "price", "history", "past_genres")
    flat = torch.cat([p[name] for name in names], dim=1)
    torch.testing.assert_close(tokenizer(looked_up, numbers), flat.reshape(5, 6, 8))


def test_groups_are_cut_apart_each_padded_to_its_own_tokens():
    tokenizer = Tokenizer(small_schema(), inputs(4, 16, "groups"))
    looked_up, numbers = random_inputs(small_schema())
    p = by_feature(tokenizer, looked_up, numbers)
    user = torch.cat([p["user"], p["age"], zeros(4)], 1)
    item = torch.cat([p["item"], p["genres"], p["price"]], 1)  # the widest: two tokens
    first, second = torch.cat([item[:, :10], zeros(6)], 1), torch.cat([item[:, 10:], zeros(6)], 1)
    sequence = torch.cat([p["history"], p["past_genres"]], 1)
    by_hand = torch.stack([user, first, second, sequence], dim=1)
    torch.testing.assert_close(tokenizer(looked_up, numbers), by_hand)


def test_fields_are_one_feature_a_token_in_the_order_of_their_groups():
    tokenizer = Tokenizer(small_schema(), inputs(7, 8, "fields"))
    looked_up, numbers = random_inputs(small_schema())
    p = by_feature(tokenizer, looked_up, numbers)
    by_hand = [
        *(p["user"], torch.cat([p["age"], zeros(4)], 1)),
        *(p["item"], p["genres"], torch.cat([p["price"], zeros(4)], 1)),
        *(p["history"], p["past_genres"]),
    ]
    torch.testing.assert_close(tokenizer(looked_up, numbers), torch.stack(by_hand, dim=1))


def test_a_vector_is_embedded_by_its_own_linear_map_and_numbers_beside_it_as_before():
    schema = small_schema()
    picture = Feature(name="picture", kind="vector", group="user", length=5, embedding_dim=3)
    between = [*schema.features[:2], picture, *schema.features[2:]]  # after age, before price
    with_it = schema.model_copy(update={"features": between})
    torch.manual_seed(0)
    tokenizer = Tokenizer(with_it, inputs(8, 8, "fields"))
    torch.manual_seed(0)
    plain = Tokenizer(schema, inputs(7, 8, "fields"))
    looked_up, numbers = random_inputs(schema)
    vectors = torch.randn(5, 5)
    with torch.no_grad():
        tokenizer.vectors[0].bias.uniform_()
    weight, bias = tokenizer.vectors[0].weight, tokenizer.vectors[0].bias
    assert weight.shape == (3, 5)
    by_hand = torch.stack([
        torch.stack([(weight[out] * row).sum() + bias[out] for out in range(3)]) for row in vectors
    ])  # fmt: skip
    tokens = tokenizer(looked_up, torch.cat([numbers[:, :1], vectors, numbers[:, 1:]], dim=1))
    torch.testing.assert_close(tokens[:, 2], torch.cat([by_hand, zeros(5)], dim=1))
    torch.testing.assert_close(tokens[:, [0, 1, 3, 4, 5, 6, 7]], plain(looked_up, numbers), rtol=0, atol=0)


def test_a_vectors_embedding_starts_as_large_as_a_numbers():
    torch.manual_seed(0)
    found = VectorEmbedding(200, 64)(torch.randn(500, 200)).std().item()
    assert found == pytest.approx(0.1, rel=0.05)
    number = NumericEmbedding([4000])(torch.randn(500, 1)).std().item()
    assert found == pytest.approx(number, rel=0.1)


@st.composite
def schemas(draw) -> Schema:
    """One to four groups, their features interleaved, of any widths, tables' or not."""
    widths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=10))
    features = [
        Feature.model_construct(
            name=f"f{number}",
            kind="categorical",
            group=draw(st.sampled_from(["a", "b", "c", "d"])),
            embedding_dim=width,
        )
        for number, width in enumerate(widths)
    ]
    return small_schema().model_copy(update={"features": features})


@given(schemas(), st.sampled_from(["chunks", "groups", "fields"]), st.data())
def test_every_tokenizer_holds_every_number_once_and_no_token_straddles_its_spans(schema, tokenizer, data):
    natural = natural_num_tokens(schema, tokenizer, chunks=4)
    num_tokens = natural if tokenizer == "fields" else natural + data.draw(st.integers(0, 20))
    token_dim = token_dim_for(schema, tokenizer, num_tokens)
    tokens = Tokenizer(schema, inputs(num_tokens, token_dim, tokenizer))
    # Each number of a feature is the feature's own, so that a token says which features it holds.
    pooled, start = {}, 1
    for feature in schema.features:
        pooled[feature.name] = torch.arange(start, start + feature.embedding_dim).float().unsqueeze(0)
        start += feature.embedding_dim
    found = tokens(LookedUp(pooled, {}), torch.empty(1, 0))[0]
    assert found.shape == (num_tokens, token_dim)
    assert sorted(found[found != 0].tolist()) == list(range(1, start))
    kept_apart = {"chunks": lambda f: None, "groups": lambda f: f.group, "fields": lambda f: f.name}[
        tokenizer
    ]
    owner = {float(n): kept_apart(f) for f in schema.features for n in pooled[f.name][0]}
    assert all(len({owner[float(n)] for n in token if n}) <= 1 for token in found)


@given(schemas(), st.sampled_from(["chunks", "groups"]), st.integers(0, 20))
def test_no_token_is_empty_where_every_span_has_a_number_for_each(schema, tokenizer, more):
    num_tokens = natural_num_tokens(schema, tokenizer, chunks=3) + more
    divided = spans(schema, tokenizer, num_tokens)
    assume(all(span.width >= span.num_tokens for span in divided))
    tokens = Tokenizer(schema, inputs(num_tokens, token_dim_for(schema, tokenizer, num_tokens), tokenizer))
    ones = {feature.name: torch.ones(1, feature.embedding_dim) for feature in schema.features}
    held = tokens(LookedUp(ones, {}), torch.empty(1, 0))[0].sum(1)
    assert held.min() >= 1
    assert tokenizer == "groups" or held.max() - held.min() <= 1


@given(schemas(), st.sampled_from(["chunks", "groups"]), st.integers(0, 12))
def test_the_token_width_is_the_smallest_aligned_one_that_is_accepted(schema, tokenizer, more):
    num_tokens = natural_num_tokens(schema, tokenizer, chunks=3) + more
    token_dim = token_dim_for(schema, tokenizer, num_tokens)
    assert token_dim % TOKEN_DIM_MULTIPLE == 0
    Tokenizer(schema, inputs(num_tokens, token_dim, tokenizer))
    if token_dim > TOKEN_DIM_MULTIPLE:
        with pytest.raises(InputError, match=f"set token_dim to at least {token_dim}$"):
            Tokenizer(schema, inputs(num_tokens, token_dim - TOKEN_DIM_MULTIPLE, tokenizer))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4), st.integers(0, 8))
def test_tokens_are_dealt_so_that_the_widest_is_as_narrow_as_any_deal_allows(widths, more):
    total = len(widths) + more
    dealt = deal_tokens(widths, total)
    deals = (
        deal
        for deal in itertools.product(range(1, total + 1), repeat=len(widths))
        if sum(deal) == total
    )  # fmt: skip
    narrowest = min(max(math.ceil(w / n) for w, n in zip(widths, deal, strict=True)) for deal in deals)
    assert sum(dealt) == total
    assert max(math.ceil(w / n) for w, n in zip(widths, dealt, strict=True)) == narrowest


def test_tokens_are_dealt_in_proportion_where_they_divide_evenly():
    assert deal_tokens([30, 10, 20], 12) == [6, 2, 4]


def test_one_token_a_group_is_as_wide_as_the_widest_group_and_one_a_field_as_the_widest_feature():
    schema = small_schema()
    assert natural_num_tokens(schema, "groups", chunks=16) == len(GROUPS)
    assert token_dim_for(schema, "groups", len(GROUPS)) == 24  # of 20, aligned
    assert natural_num_tokens(schema, "fields", chunks=16) == 7
    assert token_dim_for(schema, "fields", 7) == 8
    assert natural_num_tokens(schema, "chunks", chunks=16) == 16


@pytest.mark.parametrize(
    ("tokenizer", "num_tokens", "token_dim", "message"),
    [
        ("chunks", 3, 8, "in 3 tokens of width 8 .* 24 numbers.* are 48 wide; set token_dim to at least 16"),
        ("groups", 3, 16, "in 1 token of width 16 .* 16 numbers.* are 20 wide; set token_dim to at least 24"),
        ("groups", 2, 64, "2 cannot hold the 3 semantic groups of 'small' apart; set tokens to at least 3"),
        ("fields", 8, 8, "one token a feature, 7 for 'small', not 8; remove tokens or set them to that"),
        ("fields", 7, 4, "in 1 token of width 4 .* 4 numbers.* are 8 wide; set token_dim to at least 8"),
    ],
)
def test_tokens_that_cannot_be_are_refused_with_those_that_can(tokenizer, num_tokens, token_dim, message):
    with pytest.raises(InputError, match=message):
        Tokenizer(small_schema(), inputs(num_tokens, token_dim, tokenizer))


# ------------------------------------------------------------------------------------ numbers and sequences


def test_a_number_is_embedded_as_itself_times_a_vector_plus_a_bias():
    layer = NumericEmbedding([2, 3])
    layer.bias.data.uniform_(-1, 1)
    layer.requires_grad_(False)
    result = layer(torch.tensor([[2.0, -1.0]]))[0]
    for output, source in enumerate([2.0, 2.0, -1.0, -1.0, -1.0]):
        assert float(result[output]) == pytest.approx(
            source * float(layer.weight[output]) + float(layer.bias[output])
        )


def test_target_attention_is_the_weighted_sum_written_as_a_loop():
    attention = TargetAttention(width=3, hidden_dim=5).double()
    target, keys = torch.randn(2, 3).double(), torch.randn(2, 4, 3).double()
    lengths = torch.tensor([3, 0])
    result = attention(target, keys, lengths)
    expected = torch.zeros(2, 3).double()
    for row in range(2):
        for position in range(int(lengths[row])):
            key = keys[row, position]
            joined = torch.cat([key, target[row], key * target[row]])
            hidden = (attention.hidden.weight @ joined + attention.hidden.bias).clamp(min=0)
            weight = attention.score.weight @ hidden + attention.score.bias
            expected[row] += weight * key / lengths[row]
    torch.testing.assert_close(result, expected)
