"""Rectangles of one division of a tensor, filled from those of another, against the whole tensor."""

from __future__ import annotations

import itertools

import pytest
import torch

from harness.training.pieces import Piece, as_plain, copies, from_plain

WHOLE = torch.arange(77.0).reshape(11, 7)
ROWS = [[0, 11], [0, 4, 11], [0, 1, 2, 9, 11], [0, 5, 5, 11]]
COLUMNS = [[0, 7], [0, 3, 7]]


def divided(rows: list[int], columns: list[int]) -> list[Piece]:
    return [
        Piece(WHOLE[top:bottom, left:right].clone(), (top, left), (11, 7))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


@pytest.mark.parametrize("columns", itertools.product(COLUMNS, COLUMNS))
@pytest.mark.parametrize("rows", itertools.product(ROWS, ROWS))
def test_any_division_fills_any_other(rows, columns):
    saved = divided(rows[0], columns[0])
    by_rank = [{"table": saved[::2]}, {"table": saved[1::2]}, {"other": [Piece(torch.ones(1), (0,), (1,))]}]
    live = {"table": divided(rows[1], columns[1])}
    for piece in live["table"]:
        piece.tensor.fill_(-1)
    found = copies(live, by_rank)
    assert sum(target.numel() for target, _ in found) == WHOLE.numel()
    for target, source in found:
        target.copy_(source)
    for piece, expected in zip(live["table"], divided(rows[1], columns[1]), strict=True):
        torch.testing.assert_close(piece.tensor, expected.tensor, rtol=0, atol=0)


def test_what_every_rank_has_whole_is_taken_once():
    live = {"bias": [Piece(torch.zeros(3), (0,), (3,))], "count": [Piece(torch.tensor(0), (), ())]}
    saved = [
        {
            "bias": [Piece(torch.full((3,), float(rank)), (0,), (3,))],
            "count": [Piece(torch.tensor(5), (), ())],
        }
        for rank in (1, 2)
    ]
    for target, source in copies(live, saved):
        target.copy_(source)
    assert live["bias"][0].tensor.tolist() == [1, 1, 1]
    assert live["count"][0].tensor.item() == 5


@pytest.mark.parametrize(
    "saved",
    [
        [],
        [{"table": divided([0, 4], [0, 7])}],  # a rank's part is missing
        [{"table": [Piece(torch.zeros(12, 7), (0, 0), (12, 7))]}],  # of another table
        [{"bias": divided([0, 11], [0, 7])}],
    ],
)
def test_what_does_not_fill_the_live_pieces_is_no_copy(saved):
    assert copies({"table": divided([0, 4, 11], [0, 7])}, saved) is None


def test_saved_pieces_know_their_places_and_those_of_earlier_versions_are_none(tmp_path):
    pieces = {"table": divided([0, 4, 11], [0, 7])[1:], "elsewhere": []}
    torch.save(as_plain({"model": pieces}), tmp_path / "part.pt")
    content = torch.load(tmp_path / "part.pt", weights_only=True)
    [piece] = from_plain(content, "model")["table"]
    assert piece.place == ((4, 0), (11, 7))
    torch.testing.assert_close(piece.tensor, WHOLE[4:], rtol=0, atol=0)
    del content["places"]
    assert from_plain(content, "model") == {}
