"""The limits of a section in words. The script says those that a reader sets in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from surgery.curves.page.section import Section
from surgery.html.numbers import COST_WORDS

PHRASES = {  # with the amount first, so that no name is taken for its place
    "bytes": "at most {} in size",
    "latency": "at most {} of time",
    "macs": "at most {} multiply-adds",
    "params": "at most {} parameters",
}
LESS, MORE = "at most {} less ", "at least {} more "  # of the score, against the full model
LUCK = ", small differences counted as chance"
HOW = {
    "best": "The best model with {}",
    "cheapest": "The smallest model with {}",
    "any": "The best model, without any limits",
    "hand": "The model that you picked",
    "none": "No model keeps to {}. The nearest",
}
ASKED = "Asked for: {}."
ANYTHING = "the best model, whatever it costs"


def units(section: Section) -> dict[str, tuple[str, float]]:
    """For each measure that can be limited the unit that its limit is told in, and what one of it is."""
    costs = {x: COST_WORDS[x].unit(section.most(x)) for x in section.measures}
    return {**costs, "score": ("points", 0.01) if section.share else ("", 1.0)}


def phrases(section: Section) -> dict[str, str]:
    """How a limit of each measure is told, `{}` being the amount; `more` is for a score above the full model's."""
    than = f"{section.score} than {compared(section)}"
    return {**{x: PHRASES[x] for x in section.measures}, "score": LESS + than, "more": MORE + than}


def compared(section: Section) -> str:
    """What losses refer to."""
    return "the widest model" if section.curve.whole is None else "the full model"


def opening_words(section: Section) -> tuple[str, str]:
    """What the page opens with: what is asked for, and how the model that is shown was picked."""
    limits = section.limit_of()
    told = listed([phrase(section, limits, measure) for measure in phrases(section) if measure in limits])
    luck = LUCK if section.opening().get("errors") else ""
    how = "any" if not limits else "cheapest" if [*limits] == ["score"] else "best"
    return ASKED.replace("{}", (told or ANYTHING) + luck, 1), HOW[how].replace("{}", told, 1) + luck


def phrase(section: Section, limits: Mapping[str, float], measure: str) -> str:
    """A limit in words: `at most 1.2 MB in size`."""
    unit, size = units(section)[measure]
    amount = limits[measure] / size
    words = phrases(section)[measure]
    if measure == "score":
        amount = round((section.reference.score - limits["score"]) / size, 6 if unit else 12)
        words = words if amount >= 0 else phrases(section)["more"]
    number = f"{float(f'{abs(amount):.3g}'):.12g}"
    unit = "point" if (number, unit) == ("1", "points") else unit
    return words.replace("{}", f"{number} {unit}".strip(), 1)


def listed(words: Sequence[str]) -> str:
    """Words as one does say them: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
