from __future__ import annotations

import pytest

from datasets.dealing import Piece, deal


def rows_of(pieces: list[Piece], rank: int) -> int:
    return sum(piece.rows for piece in pieces if piece.rank == rank)


@pytest.mark.parametrize("ranks", range(1, 20))
@pytest.mark.parametrize("shard_rows", [[100] * 8, [65_536] * 37 + [12_345], [100] * 7 + [3], [19]])
def test_every_row_is_dealt_once_in_file_order(ranks, shard_rows):
    pieces = deal(shard_rows, ranks)
    found = [(piece.shard, row) for piece in pieces for row in range(piece.start, piece.stop)]
    assert found == [(shard, row) for shard, rows in enumerate(shard_rows) for row in range(rows)]


@pytest.mark.parametrize("shards", [1, 2, 8, 9])
@pytest.mark.parametrize("ranks", [1, 2])
def test_one_and_two_ranks_read_whole_shards_in_turn(ranks, shards):
    pieces = deal([10] * shards, ranks)
    assert pieces == [Piece(shard % ranks, shard, 0, 10) for shard in range(shards)]


@pytest.mark.parametrize("ranks", [4, 8])
def test_so_do_ranks_that_have_as_many_each(ranks):
    assert deal([10] * 8, ranks) == [Piece(shard % ranks, shard, 0, 10) for shard in range(8)]


@pytest.mark.parametrize(
    ("ranks", "of_whole_shards"), [(3, 0.89), (5, 0.8), (6, 0.67), (7, 0.57), (12, 0), (100, 0)]
)
def test_no_rank_waits_for_one_that_has_more_rows(ranks, of_whole_shards):
    """Useful work: the share of rows among all that fit into the steps of the rank that has most."""
    shard_rows = [1000] * 8
    most = max(rows_of(deal(shard_rows, ranks), rank) for rank in range(ranks))
    assert 8000 / (ranks * most) > 0.999 > of_whole_shards
