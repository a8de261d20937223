"""How a table's lists are written as text: cut at a separator, or in one of the common brackets."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from datasets.raw.table import RawTable
from datasets.raw.text import Notation, elements, inner
from datasets.schema import Feature
from files.errors import InputError

CUT_SHORT = r"[\[({\s,]\.\.\.[\])}\s,]"
BRACKETED = r"(?s)^(\[.*\]|\(.*\)|\{.*\})$"
TOKEN = r"(?:[-+.0-9eE]+|nan|NaN|None|null|NULL|True|False)"  # a number, or what Python prints among them
ONLY_TOKENS = rf"^[\[({{]\s*(?:{TOKEN}\s+)*{TOKEN}?[\])}}]$"


def list_notations(table: RawTable, features: list[Feature]) -> tuple[dict[str, Notation], dict]:
    """How each feature's lists are written, and notes on gaps and further separators.

    Raises InputError, with file and line, on lists that are written in two ways, cut short or nested, on
    words in brackets that only spaces separate, and where no cell holds the separator.
    """
    conditions: dict[str, pl.Expr] = {}
    for feature in features:
        value = table.cell(feature.source_column)
        bracketed = value.str.contains(BRACKETED)
        body = value.str.slice(1, value.str.len_chars() - 2)
        looks = {
            "cells": value.is_not_null(),
            "bracketed": bracketed,
            "quotes": bracketed & body.str.contains("['\"]"),
            "commas": bracketed & body.str.contains(",", literal=True),
            "tokens": bracketed & value.str.contains(ONLY_TOKENS),
            "spaces": bracketed & body.str.strip_chars().str.contains(r"\s"),
            "cut short": bracketed & value.str.contains(CUT_SHORT),
            "nested": bracketed & body.str.contains(r"[\[({]"),
        }
        if feature.separator is not None:
            holds = value.str.contains(feature.separator, literal=True)
            doubled = value.str.contains(feature.separator * 2, literal=True)
            looks |= {
                "holds": holds,
                "within": bracketed & body.str.contains(feature.separator, literal=True),
                "starts": holds & value.str.starts_with(feature.separator),
                "ends": holds & value.str.ends_with(feature.separator),
                "doubled": doubled,
            }
        conditions |= {f"{feature.name} {look}": condition for look, condition in looks.items()}
    counts = table.counts(conditions)
    notations: dict[str, Notation] = {}
    notes: dict[str, int | float | str] = {}
    for feature in features:
        own = {
            key.removeprefix(feature.name + " "): number
            for key, number in counts.items()
            if key.partition(" ")[0] == feature.name
        }
        notations[feature.name] = _notation(table, feature, own)
        notes |= _list_notes(feature, own, notations[feature.name])
    return notations, notes


def _notation(table: RawTable, feature: Feature, counts: Mapping[str, int]) -> Notation:
    column = feature.source_column
    value = table.cell(column)
    where = f"column {column!r} of feature {feature.name!r}"
    if counts["bracketed"] and counts["bracketed"] == counts["cells"]:
        if counts["quotes"]:
            listed = elements(value, "quoted", None)
            broken = value.is_not_null() & listed.is_null()
            if table.counts({"broken": broken})["broken"]:
                place, held = table.example(column, broken)
                raise InputError(f"{place}: {where} holds {held!r}, which is no JSON or Python list; mend it")
            return "quoted"
        return _notation_in_brackets(table, feature, counts, where)
    if counts["bracketed"] and (feature.separator is None or counts["commas"] or counts["quotes"]):
        place, held = table.example(column, value.is_not_null() & ~value.str.contains(BRACKETED))
        raise InputError(
            f"{place}: {where} holds {held!r}, but other cells hold lists in brackets; write all in "
            "the same way"
        )
    if not counts["cells"]:
        return "brackets"  # no cell holds a list
    if feature.separator is None:
        place, held = table.example(column, value.is_not_null())
        raise InputError(
            f"{place}: {where} holds {held!r}, which is no list in brackets; add 'separator: \"|\"', with "
            "what separates its elements, or make the feature categorical"
        )
    if counts["cells"] and not counts["holds"]:
        place, held = table.example(column, value.is_not_null())
        raise InputError(
            f"{place}: no cell of {where} holds the separator {feature.separator!r} (this one holds "
            f"{held!r}); mend the separator, or make the feature categorical"
        )
    # A separator after the last element is part of the notation only if every list has it.
    if counts["ends"] < counts["holds"]:
        return "separated"
    return "enclosed" if counts["starts"] == counts["holds"] else "terminated"


def _notation_in_brackets(
    table: RawTable, feature: Feature, counts: Mapping[str, int], where: str
) -> Notation:
    """The notation of lists that are all in brackets, without quotes."""
    column, separator = feature.source_column, feature.separator
    value = table.cell(column)
    if counts["cut short"]:
        place, held = table.example(column, value.str.contains(CUT_SHORT))
        raise InputError(
            f"{place}: {where} holds {held!r}, a list that was cut short when it was printed; write it whole"
        )
    if counts["nested"]:
        place, held = table.example(column, value.str.slice(1).str.contains(r"[\[({]"))
        raise InputError(f"{place}: {where} holds {held!r}, with brackets in brackets; write plain values")
    if separator is not None and "," not in separator and counts["within"]:
        if not counts["commas"]:
            return "cut in brackets"
        if separator.strip():
            place, held = table.example(column, value.str.contains(separator, literal=True))
            raise InputError(
                f"{place}: {where} holds {held!r}, but other lists in brackets have commas between their "
                f"elements; remove the separator {separator!r} from the schema if a comma is meant, or the "
                "brackets from the table"
            )
    if not counts["spaces"] or counts["commas"]:
        return "brackets"
    if counts["tokens"] == counts["cells"] or feature.kind == "vector":  # which has numbers alone
        return "spaced"
    if separator is None or "," not in separator:
        other = value.is_not_null() & ~value.str.contains(ONLY_TOKENS)
        spaced = other & value.str.slice(1, value.str.len_chars() - 2).str.contains(r"\S\s+\S")
        has_spaced = table.counts({"spaced": spaced})["spaced"] > 0
        place, held = table.example(column, spaced if has_spaced else other)
        raise InputError(
            f"{place}: {where} holds {held!r}, in brackets without a comma; say 'separator: \" \"' if spaces "
            "separate the elements, or 'separator: \",\"' if commas do, so that this is one element"
        )
    return "brackets"


def _list_notes(feature: Feature, counts: Mapping[str, int], notation: Notation) -> dict:
    if notation in ("terminated", "enclosed"):
        places = "ends" if notation == "terminated" else "begins and ends"
        return {f"lists of {feature.name}": f"every list {places} with a separator, which adds no element"}
    gaps = sum(counts.get(look, 0) for look in ("doubled", "starts", "ends"))
    if notation == "separated" and gaps:
        kept = "keep their place as missing" if feature.kind == "sequence" else "are dropped"
        return {f"lists of {feature.name}": f"{gaps} cells have elements without text, which {kept}"}
    return {}


def list_lengths(table: RawTable, features: list[Feature], notations: Mapping[str, Notation]) -> dict:
    """Notes: the share of text cells with more than one element, and how many lists are over ``max_length``.

    ``features`` are written as text, which has ``notations``, or held as lists.
    """
    conditions: dict[str, pl.Expr] = {}
    for feature in features:
        listed = _listed(table, feature, notations)
        conditions[f"{feature.name} filled"] = listed.list.len() > 0
        if feature.name in notations:
            conditions[f"{feature.name} several"] = listed.list.len() > 1
        if feature.is_list:
            kept = listed.list.drop_nulls() if feature.kind == "multi_hot" else listed
            conditions[f"{feature.name} cut"] = kept.list.len() > feature.max_length
    counts = table.counts(conditions)
    notes: dict[str, int | float | str] = {}
    for feature in features:
        name, most, filled = feature.name, feature.max_length, counts[f"{feature.name} filled"]
        if feature.name in notations:
            share = counts[f"{name} several"] / max(1, filled)
            notes[f"share of {name} with more than one element"] = share
        if cut := counts.get(f"{name} cut"):
            kept_ones = "latest" if feature.kind == "sequence" else "first"
            notes[f"lists of {name} with over {most} elements"] = (
                f"{cut:,} of {filled:,}; only the {kept_ones} {most} are kept (max_length)"
            )
    return notes


def _listed(table: RawTable, feature: Feature, notations: Mapping[str, Notation]) -> pl.Expr:
    column = feature.source_column
    if feature.name in notations:
        return elements(table.cell(column), notations[feature.name], feature.separator)
    return pl.col(column).cast(pl.List(inner(table.types[column])))
