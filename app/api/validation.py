"""Validation of what clients send: pydantic's errors as InvalidField, latents as arrays, paths as a whole."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from app.api.schemas import MAX_WAYPOINTS, MIN_WAYPOINTS, Options, PathOptions
from app.errors import InvalidField, TooManyItems, WrongModel

MAX_PROBLEMS = 20
"""Most problems that one answer lists."""
NUMBERS = frozenset((int, float))


AnyOptions = TypeVar("AnyOptions", bound=Options)


def from_json(model: type[AnyOptions], values: dict[str, Any]) -> AnyOptions:
    """Check a decoded JSON body; types are taken as they are: "3" and true are not numbers."""
    try:
        return model.model_validate(values, strict=True)
    except ValidationError as error:
        raise InvalidField(_problems(model, error, "")) from None


def from_strings(
    model: type[AnyOptions], values: Mapping[str, str | list[str]], within: str = ""
) -> AnyOptions:
    """Check query parameters or form fields, which are text; `within` stands before the name of the place."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidField(_problems(model, error, within)) from None


def from_query(model: type[AnyOptions], query: Mapping[str, str]) -> AnyOptions:
    """Check the query parameters that the model knows; others are ignored, as is the custom in HTTP."""
    known = {name: query[name] for name in model.model_fields if name in query}
    return from_strings(model, known, "query.") if known else model()


def _problems(model: type[Options], error: ValidationError, within: str) -> list[tuple[str, str]]:
    return [
        (within + _place(fault["loc"])[:100], _message(model, fault["loc"]))
        for fault in error.errors(include_url=False, include_context=False, include_input=False)[
            :MAX_PROBLEMS
        ]
    ]


def _place(location: tuple[int | str, ...]) -> str:
    names = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(names).removeprefix(".")


def _message(model: type[Options], location: tuple[int | str, ...]) -> str:
    field = model.model_fields.get(str(location[0]))
    return "unknown field" if field is None else f"must be {field.description}"


def read_latents(body: dict[str, Any], model_id: str, dim: int, max_items: int) -> NDArray[np.float32]:
    """Take the latents out of a decoded JSON body.

    Args:
        body: its `latents` is to be a list of lists of `dim` finite numbers; its `model`, if any, `model_id`.

    Returns:
        (N, dim) float32, 1 <= N <= max_items.

    Raises:
        InvalidField: names the first place that is wrong. TooManyItems. WrongModel.
    """
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidField([("model", "must be a text")])
    if model is not None and model != model_id:
        raise WrongModel(f"the latents are of another model; this service runs {model_id}")
    rows = body.get("latents")
    if not isinstance(rows, list) or not rows:
        raise InvalidField([("latents", f"must be a list of latents, {dim} numbers each")])
    if len(rows) > max_items:
        raise TooManyItems(f"{len(rows)} latents; at most {max_items} are allowed in one request")
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != dim:
            raise InvalidField([(f"latents[{index}]", f"must be a list of {dim} numbers")])
        if not NUMBERS.issuperset(map(type, row)):
            place = next(place for place, value in enumerate(row) if type(value) not in NUMBERS)
            raise InvalidField([(f"latents[{index}][{place}]", "must be a number")])
    with np.errstate(over="ignore"):
        latents = np.array(rows, dtype=np.float32)
    finite = np.isfinite(latents)
    if not finite.all():
        index, place = np.argwhere(~finite)[0]
        raise InvalidField([(f"latents[{index}][{place}]", "must be a number that float32 can hold")])
    return latents


def refuse_unknown(model: type[Options], body: dict[str, Any]) -> None:
    """Raises InvalidField where a body has fields that `model` has not."""
    unknown = [name for name in body if name not in model.model_fields]
    if unknown:
        raise InvalidField([(name[:100], "unknown field") for name in unknown[:MAX_PROBLEMS]])


def check_path(options: PathOptions, waypoints: int) -> None:
    """Raises InvalidField where the options do not go together, or not with the number of waypoints."""
    if not MIN_WAYPOINTS <= waypoints <= MAX_WAYPOINTS:
        raise InvalidField([("waypoints", f"must be {MIN_WAYPOINTS} to {MAX_WAYPOINTS}, not {waypoints}")])
    if options.lambdas is None:
        return
    if options.steps is not None:
        raise InvalidField([("lambdas", "must not be given together with steps")])
    if waypoints != MIN_WAYPOINTS:
        raise InvalidField([("lambdas", f"must be given with two waypoints only, not {waypoints}")])
