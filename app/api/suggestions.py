"""Suggestions: what a client may have meant by a name that an endpoint does not know."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

SYNONYMS = {
    name: frozenset(words.split())
    for name, words in {
        "image": "file files images image[] img photo photos picture pictures upload data car",
        "latents": "z zs latent vector vectors vec embedding embeddings mean means mu code point points",
        "lambdas": "lambda alpha alphas t ts weight weights positions",
        "steps": "n num number frames frame_count num_steps n_steps",
        "count": "n num number samples sample num_samples n_samples batch batch_size",
        "temperature": "temp t tau truncation scale sigma",
        "seed": "random_seed random_state rng",
        "method": "mode interpolation kind",
        "size": "width height longer_edge max_size resolution",
        "format": "fmt type output",
        "model": "model_id",
    }.items()
}
"""Name of a field -> what other services and books call the same."""
LONGEST = 40
"""Longest name that is compared: none that is meant has half of it."""


def suggestion(name: str, known: Sequence[str]) -> str | None:
    """The one of the known names that another is likely to stand for, if there is one."""
    plain = name[:LONGEST].lower()
    for candidate in known:
        if plain in SYNONYMS.get(candidate, ()):
            return candidate
    close = get_close_matches(plain, known, n=1)
    return close[0] if close else None


def unknown(
    kind: str,
    name: str,
    known: Sequence[str],
    *,
    list_known: bool = False,
    of_query: Collection[str] = (),
) -> str:
    """The message about an unknown name: what it is, and which known one it is likely to stand for.

    Args:
        kind: `field` or `parameter`.
        list_known: name them all where none is like it.
        of_query: names that are known too, but as parameters of the query; of files `images` means `image`.
    """
    if name in of_query and not any(name in SYNONYMS.get(each, ()) for each in known):
        return f"unknown {kind}; `{name}` is an option of the query, ?{name}="
    meant = suggestion(name, known)
    if meant is not None:
        return f"unknown {kind}; did you mean `{meant}`?"
    if list_known and known:
        return f"unknown {kind}; there are {', '.join(f'`{each}`' for each in known)}"
    return f"unknown {kind}"
