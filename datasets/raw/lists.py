"""How a table's lists are written as text: cut at a separator, or in one of the common brackets."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from datasets.raw.table import RawTable
from datasets.raw.text import Notation, elements
from datasets.schema import Feature
from files.errors import InputError

CUT_SHORT = r"[\[({\s,]\.\.\.[\])}\s,]"
BRACKETED = r"(?s)^(\[.*\]|\(.*\)|\{.*\})$"
TOKEN = r"(?:[-+.0-9eE]+|nan|NaN|None|null|NULL|True|False)"  # a number, or what Python prints among them
ONLY_TOKENS = rf"^[\[({{]\s*(?:{TOKEN}\s+)*{TOKEN}?[\])}}]$"


def list_notations(table: RawTable, features: list[Feature]) -> tuple[dict[str, Notation], dict]:
    """How each feature's lists are written, and notes: the share of cells with more than one element.

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
    return notations, notes | _share_of_long_lists(table, features, notations)


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
    if counts["tokens"] == counts["cells"]:
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


def _share_of_long_lists(table: RawTable, features: list[Feature], notations: Mapping[str, Notation]) -> dict:
    conditions: dict[str, pl.Expr] = {}
    for feature in features:
        listed = elements(table.cell(feature.source_column), notations[feature.name], feature.separator)
        conditions |= {feature.name: listed.list.len() > 1, feature.name + " all": listed.list.len() > 0}
    counts = table.counts(conditions)
    return {
        f"share of {name} with more than one element": counts[name] / max(1, counts[name + " all"])
        for name in conditions
        if not name.endswith(" all")
    }
