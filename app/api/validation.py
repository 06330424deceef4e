"""Validation of what clients send: pydantic's errors as InvalidField, latents as arrays, paths as a whole."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from app.api.schemas import ANSWERED, IGNORED, MAX_LATENT, MAX_WAYPOINTS, MIN_WAYPOINTS, Options, PathOptions
from app.api.suggestions import unknown
from app.errors import InvalidField, TooManyItems, WrongModel

MAX_PROBLEMS = 20
"""Most problems that one answer lists."""
MAX_LISTED = 3
"""Most unknown names of one request that are answered with all known ones."""
NUMBERS = frozenset((int, float))
AnyOptions = TypeVar("AnyOptions", bound=Options)


def from_json(model: type[AnyOptions], values: dict[str, Any], of_query: Collection[str] = ()) -> AnyOptions:
    """Check a decoded JSON body; types are taken as they are: "3" and true are not numbers.

    Args:
        of_query: names that are known in the query, which the message about one in the body says.
    """
    try:
        return model.model_validate(values, strict=True)
    except ValidationError as error:
        raise InvalidField(_problems(error, "", "field", known_names(model), model, of_query)) from None


def from_form(
    model: type[AnyOptions], fields: Mapping[str, list[str]], images: str, of_query: Collection[str] = ()
) -> AnyOptions:
    """Check the fields of a form, which are text.

    Args:
        images: the field of the images beside them, which is known too.
    """
    return _from_texts(model, fields, "", "field", (*known_names(model), images), of_query)


def from_query(model: type[AnyOptions], query: QueryParams) -> AnyOptions:
    """Check query parameters: all are to be known, and one that is no list is to be there once; the values of
    a list are repeated, or separated by commas."""
    texts: dict[str, list[str]] = {}
    for name, text in query.multi_items():
        texts.setdefault(name, []).append(text)
    return _from_texts(model, texts, "query.", "parameter", known_names(model))


def _from_texts(
    model: type[AnyOptions],
    texts: Mapping[str, list[str]],
    within: str,
    kind: str,
    known: Sequence[str],
    of_query: Collection[str] = (),
) -> AnyOptions:
    lists = _lists(model)
    repeated = [name for name in model.model_fields if len(texts.get(name, ())) > 1 and name not in lists]
    if repeated:
        raise InvalidField([(within + name, "must be given once") for name in repeated])
    values = {
        name: ",".join(given).split(",") if name in lists else given[0] for name, given in texts.items()
    }
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidField(_problems(error, within, kind, known, model, of_query)) from None


@cache
def _lists(model: type[Options]) -> frozenset[str]:
    """The fields of a model that are lists."""
    kinds = {name: field.annotation for name, field in model.model_fields.items()}
    return frozenset(
        name for name, kind in kinds.items() if list in (get_origin(kind), *map(get_origin, get_args(kind)))
    )


@cache
def known_names(model: type[Options]) -> tuple[str, ...]:
    """The fields of a model that a client fills in; those of answers are left out."""
    return tuple(
        name for name, field in model.model_fields.items() if field.description not in (IGNORED, ANSWERED)
    )


def _problems(
    error: ValidationError,
    within: str,
    kind: str,
    known: Sequence[str],
    model: type[Options],
    of_query: Collection[str],
) -> list[tuple[str, str]]:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    few = len(faults) <= MAX_LISTED
    problems = []
    for fault in faults[:MAX_PROBLEMS]:
        name = str(fault["loc"][0])
        field = model.model_fields.get(name)
        message = (
            unknown(kind, name, known, list_known=few, of_query=of_query)
            if field is None
            else f"must be {field.description}"
        )
        problems.append((within + _place(fault["loc"])[:100], message))
    return problems


def _place(location: tuple[int | str, ...]) -> str:
    names = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(names).removeprefix(".")


def refuse_unknown(model: type[Options], names: Collection[str], of_query: Collection[str] = ()) -> None:
    """Raises InvalidField where a body has fields that `model` has not."""
    strange = [name for name in names if name not in model.model_fields]
    refuse_fields(strange, known_names(model), of_query)


def refuse_fields(names: Sequence[str], known: Sequence[str], of_query: Collection[str] = ()) -> None:
    """Raises InvalidField where there are any names: they are not known, as `known` ones would be."""
    if names:
        few = len(names) <= MAX_LISTED
        problems = [
            (name[:100], unknown("field", name, known, list_known=few, of_query=of_query))
            for name in names[:MAX_PROBLEMS]
        ]
        raise InvalidField(problems)


def merged(model: type[AnyOptions], body: AnyOptions, query: Options) -> AnyOptions:
    """The options of a body and those of `model` in the query of the same request.

    Raises:
        InvalidField: one stands in both with different values.
    """
    named = {name: getattr(query, name) for name in model.model_fields if name in query.model_fields_set}
    contradicted = [
        name
        for name, value in named.items()
        if name in body.model_fields_set and getattr(body, name) not in (None, value)
    ]
    if contradicted:
        message = "must be what the body says, or be left out: it stands in both"
        raise InvalidField([(f"query.{name}", message) for name in contradicted])
    return body.model_copy(update=named) if named else body


def known_model(body: dict[str, Any], model_id: str) -> None:
    """Raises WrongModel where a decoded JSON body names another model than the served one."""
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidField([("model", "must be a text")])
    if model is not None and model != model_id:
        raise WrongModel(f"the latents are of another model; this service runs {model_id}")


def listed_codes(body: dict[str, Any], max_items: int) -> list[tuple[str, str]] | None:
    """The codes of a decoded JSON body, each with its place: its `codes`, or those of all its `items`, as an
    answer of /compress has them; None where it has neither.

    Raises:
        InvalidField: names the first place that is wrong. TooManyItems.
    """
    named = [name for name in ("latents", "codes", "items") if body.get(name) is not None]
    if len(named) > 1:
        raise InvalidField([(named[1], f"must be left out, as {named[0]} is given")])
    if not named or named == ["latents"]:
        return None
    if named == ["codes"]:
        lists = [("codes", body["codes"])]
    else:
        items = body["items"]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InvalidField([("items", "must be the items of an answer of /compress")])
        lists = [(f"items[{index}].codes", item.get("codes")) for index, item in enumerate(items)]
    found = []
    for place, codes in lists or [("items", None)]:
        if not isinstance(codes, list) or not codes:
            raise InvalidField([(place, "must be a list of codes")])
        found += [(f"{place}[{index}]", code) for index, code in enumerate(codes)]
    if len(found) > max_items:
        raise TooManyItems(f"{len(found)} codes; at most {max_items} are allowed in one request")
    strange = [place for place, code in found if not isinstance(code, str)]
    if strange:
        raise InvalidField([(strange[0], "must be a text")])
    return found


def read_latents(body: dict[str, Any], dim: int, max_items: int) -> NDArray[np.float32]:
    """Take the latents out of a decoded JSON body.

    Args:
        body: its `latents` is to be a list of lists of `dim` finite numbers.

    Returns:
        (N, dim) float32, 1 <= N <= max_items.

    Raises:
        InvalidField: names the first place that is wrong. TooManyItems.
    """
    rows = body.get("latents")
    if not isinstance(rows, list) or not rows:
        raise InvalidField([("latents", f"must be a list of latents, {dim} numbers each")])
    if type(rows[0]) in NUMBERS:
        message = f"must be a list of {dim} numbers: a latent stands in a list of latents, [[...]]"
        raise InvalidField([("latents[0]", message)])
    if len(rows) > max_items:
        raise TooManyItems(f"{len(rows)} latents; at most {max_items} are allowed in one request")
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != dim:
            raise InvalidField([(f"latents[{index}]", f"must be a list of {dim} numbers")])
        if not NUMBERS.issuperset(map(type, row)):
            place = next(place for place, value in enumerate(row) if type(value) not in NUMBERS)
            raise InvalidField([(f"latents[{index}][{place}]", "must be a number")])
    latents = np.array(rows, dtype=np.float64)
    check_numbers(latents)
    return latents.astype(np.float32)


def check_numbers(latents: NDArray[Any]) -> None:
    """Raises InvalidField where one of (N, L) numbers is not finite, or beyond MAX_LATENT."""
    allowed = np.abs(latents) <= MAX_LATENT
    if not allowed.all():
        index, place = np.argwhere(~allowed)[0]
        message = f"must be a number from {-MAX_LATENT:.0f} to {MAX_LATENT:.0f}"
        raise InvalidField([(f"latents[{index}][{place}]", message)])


def path_options(body: dict[str, Any], waypoints: int, query: PathOptions) -> PathOptions:
    """The options in a JSON body of /interpolate that has so many waypoints.

    An answer of /interpolate is such a body too, and its `lambdas`, one for each of its latents, say where
    these were on their path. They are left out where they cannot be the option of that name, as there are
    more than two latents or `steps` stands beside them, in the body or in the query.
    """
    given = {name: body[name] for name in PathOptions.model_fields if name in body}
    lambdas = given.get("lambdas")
    answered = "images" in body and isinstance(lambdas, list) and len(lambdas) == waypoints
    steps = given.get("steps") or query.steps
    if answered and (waypoints != MIN_WAYPOINTS or steps is not None):
        del given["lambdas"]
    return from_json(PathOptions, given)


def check_path(options: PathOptions, waypoints: int, query: Collection[str] = ()) -> None:
    """Raises InvalidField where the options do not go together, or not with the number of waypoints.

    Args:
        query: those of the options that stand in the query.
    """
    if not MIN_WAYPOINTS <= waypoints <= MAX_WAYPOINTS:
        raise InvalidField([("waypoints", f"must be {MIN_WAYPOINTS} to {MAX_WAYPOINTS}, not {waypoints}")])
    if options.lambdas is None:
        return
    place = "query.lambdas" if "lambdas" in query else "lambdas"
    if options.steps is not None:
        raise InvalidField([(place, "must not be given together with steps")])
    if waypoints != MIN_WAYPOINTS:
        raise InvalidField([(place, f"must be given with two waypoints only, not {waypoints}")])
