"""What tuning may choose from: the same training settings and tokens for all, and each architecture's own."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from pydantic import Field, ValidationError, model_validator

from harness.data import InputError
from harness.model.architectures import architecture_class
from harness.records.spec import Strict, TokenizerName, Training


class Range(Strict):
    """Real numbers from ``low`` to ``high``, drawn evenly in their logarithms."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}; swap or widen them")
        return self


Search = dict[str, Range | list[Any]]
TOKEN_FIELDS = ("tokenizer", "tokens")  # of a suite's row; what else is searched are fields of `Training`
MOST_TOKENS = 4096

# Regularisers may be off, which is where they start.
DEFAULT_SEARCH: Search = {
    "dense_lr": Range(low=3e-4, high=1e-2),
    "sparse_lr": Range(low=0.01, high=0.2),
    "weight_decay": [0.0, 1e-6, 1e-5, 1e-4],
    "dropout": [0.0, 0.1, 0.2],
    "embedding_l2": [0.0, 1e-6, 1e-5, 1e-4],
}


def check_search(search: Search) -> Search:
    """Raise ValueError unless every key is a token field or a field of `Training`, and may be so set."""
    for name, choices in search.items():
        if name in TOKEN_FIELDS:
            _check_tokens(name, choices)
            continue
        if name not in Training.model_fields or name == "recipe":
            known = ", ".join([*sorted(set(Training.model_fields) - {"recipe"}), *TOKEN_FIELDS])
            raise ValueError(f"search: {name!r} is no setting of training; choose from {known}")
        if isinstance(choices, list) and not choices:
            raise ValueError(f"search: {name!r} has nothing to choose from; list values or remove it")
        if isinstance(choices, Range) and float not in _types(name):
            raise ValueError(f"search: {name!r} is no real number; list the values to choose from")
        for value in [choices.low, choices.high] if isinstance(choices, Range) else choices:
            _check_value(name, value)
    return search


def _check_tokens(name: str, choices: Range | list[Any]) -> None:
    if isinstance(choices, Range) or not choices:
        raise ValueError(f"search: {name!r} needs a list of values to choose from")
    tokenizers = get_args(TokenizerName)
    for value in choices:
        if name == "tokenizer" and value not in tokenizers:
            raise ValueError(f"search: 'tokenizer' cannot be {value!r}; choose from {', '.join(tokenizers)}")
        if name == "tokens" and (type(value) is not int or not 1 <= value <= MOST_TOKENS):
            raise ValueError(
                f"search: 'tokens' cannot be {value!r}; give whole numbers from 1 to {MOST_TOKENS}"
            )


def check_has_defaults(search: Search, defaults: dict[str, Any]) -> None:
    """Raise InputError unless the first trial, which takes ``defaults``, is one of the search."""
    for name, value in defaults.items():
        choices = search[name]
        if isinstance(choices, list) and value not in choices:
            raise InputError(f"search: {name!r} lacks {value}, which the first trial takes; list it too")


def training_search(search: Search) -> Search:
    """The part of a search that sets fields of `Training`."""
    return {name: choices for name, choices in search.items() if name not in TOKEN_FIELDS}


def token_search(search: Search) -> Search:
    """The part of a search that sets a row's tokens."""
    return {name: choices for name, choices in search.items() if name in TOKEN_FIELDS}


def _types(name: str) -> tuple[Any, ...]:
    annotation = Training.model_fields[name].annotation
    return get_args(annotation) or (annotation,)


def _check_value(name: str, value: Any) -> None:
    try:
        Training.model_validate({name: value})
    except ValidationError as error:
        raise ValueError(
            f"search: {name!r} cannot be {value!r} ({error.errors()[0]['msg']}); mend it"
        ) from None


def structural_choices(architecture: str, config: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Fields that the architecture's Config declares tunable and ``config`` does not settle, with choices."""
    declared = {field.name: field.metadata for field in fields(architecture_class(architecture).Config)}
    return {
        name: metadata["choices"]
        for name, metadata in declared.items()
        if "choices" in metadata and name not in config
    }
