"""The colours of reports, charts and terminals, each for a light scheme and for a dark one."""

from __future__ import annotations

from dataclasses import dataclass

from scope_rlvr.core.groups import GroupClass


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour in a light scheme, in a dark one, and in a terminal, where the background is unknown."""

    light: str
    dark: str
    terminal: str = ""


COLOURS = {
    "blue": Colour("#0153e3", "#5389f0", "#4f8ff7"),
    "orange": Colour("#cf4b0c", "#f07040", "#e8662f"),
    "green": Colour("#01875a", "#2fdc9a", "#16a97c"),
    "purple": Colour("#af1884", "#e8a3dc", "#d869c4"),
    "teal": Colour("#1b8fb3", "#56bfe0"),
    "ochre": Colour("#8a6d00", "#d9b83a"),
    "violet": Colour("#6b4fd8", "#a794ff"),
    "grey": Colour("#8a8f98", "#8a919e"),
    "faint": Colour("#b9bcc3", "#4a505b", "bright_black"),
}
"""What is drawn in; a colour-blind reader can tell neighbours apart."""

SURFACES = {
    "page": Colour("#f6f5f1", "#101216"),
    "card": Colour("#ffffff", "#181b21"),
    "ink": Colour("#1b1e24", "#e8e9ec"),
    "soft": Colour("#5c626d", "#9ba2ae"),
    "line": Colour("#dedcd5", "#2c313a"),
    "grid": Colour("#e3e1da", "#262a32"),
}
"""What it is drawn on, text, and lines between."""

ARMS = ("blue", "orange", "green", "purple", "teal", "ochre", "violet", "grey")
"""The colours of the arms of a comparison, in their order."""

PARTS = {"kept": "blue", "rejected": "orange", "teacher": "purple", "continuation": "green"}
"""The colours of the parts of a salvaged rollout."""

CLASSES = {
    GroupClass.ALL_RIGHT: "green",
    GroupClass.MIXED: "blue",
    GroupClass.SALVAGED: "purple",
    GroupClass.ALL_WRONG: "orange",
    GroupClass.UNUSABLE: "faint",
}
"""The colours of the classes of groups."""

BETTER, WORSE = COLOURS["green"].terminal, COLOURS["orange"].terminal
"""In a terminal, the colours of what has risen and of what has fallen or failed."""

_TINT = ("10%", "15%")
"""How much of its colour the background of a part has, light and dark."""


def style_sheet() -> str:
    """CSS variables for all colours by their names, in both schemes."""
    named = COLOURS | SURFACES | {part: COLOURS[colour] for part, colour in PARTS.items()}
    light = "".join(f" --{name}: {colour.light};" for name, colour in named.items())
    dark = "".join(f" --{name}: {colour.dark};" for name, colour in named.items())
    return (
        f":root {{{light} --tint: {_TINT[0]}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{{dark} --tint: {_TINT[1]}; }} }}"
    )
