"""A dataset's user options, checked."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from datasets.schema import first_problem
from files.errors import InputError

Options = TypeVar("Options", bound=BaseModel)


def parse_options(model: type[Options], options: dict, dataset: str) -> Options:
    """``options`` as the dataset's frozen model; InputError on an unknown name or a wrong value."""
    unknown = sorted(set(options) - set(model.model_fields))
    if unknown:
        raise InputError(
            f"dataset {dataset!r} has no option {unknown[0]!r}: choose from {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise InputError(first_problem(error, f"option of dataset {dataset!r}")) from None
