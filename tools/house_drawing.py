"""Draws the rooms on their floors, as tools/house.py finds them: docs/images/rooms.svg.

    python -m tools.house_drawing

A room is drawn one floor above the highest room that it imports.
"""

from __future__ import annotations

import sys
import textwrap
from html import escape
from pathlib import Path

from tools.house import ROOMS, House

DRAWING = Path(__file__).parent.parent / "docs" / "images" / "rooms.svg"

WIDTH = 1040
MARGIN = 20
LEFT = 80
"""Where the boxes begin; the number of the floor is before it."""
ROW, BOX, GAP = 84, 66, 10
MAX_BOX = 300
LETTER = 6.2
"""Width of a small letter, in pixels."""

STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2430}"
    ".name{font-size:15px;font-weight:600}.what{font-size:11.5px;fill:#4a5160}.floor{font-size:12px;fill:#6b7280}"
    ".box{fill:#eef3fb;stroke:#8fa9d0}.page{fill:#ffffff}"
)


def drawing(house: House) -> str:
    """The SVG, the lowest floor at the bottom."""
    floors = house.floors
    count = max(floors.values())
    height = 2 * MARGIN + count * ROW - (ROW - BOX)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        "<title>The rooms of scope_rlvr: each imports only rooms on lower floors</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
    ]
    for floor in range(count, 0, -1):
        top = MARGIN + (count - floor) * ROW
        lines.append(f'<text class="floor" x="{MARGIN}" y="{top + BOX / 2 + 4:g}">floor {floor}</text>')
        rooms = [room for room in ROOMS if floors.get(room) == floor]
        room_width = min(MAX_BOX, (WIDTH - MARGIN - LEFT + GAP) / len(rooms) - GAP)
        for i, room in enumerate(rooms):
            lines += _box(room, LEFT + i * (room_width + GAP), top, room_width)
    return "\n".join([*lines, "</svg>", ""])


def _box(room: str, left: float, top: float, width: float) -> list[str]:
    what = textwrap.wrap(ROOMS[room], int((width - 20) / LETTER))
    return [
        f'<rect class="box" x="{left:g}" y="{top}" width="{width:g}" height="{BOX}" rx="6"/>',
        f'<text class="name" x="{left + 10:g}" y="{top + 21}">{escape(room)}/</text>',
        *(
            f'<text class="what" x="{left + 10:g}" y="{top + 39 + 15 * i}">{escape(line)}</text>'
            for i, line in enumerate(what)
        ),
    ]


def main() -> int:
    DRAWING.write_text(drawing(House()), encoding="utf-8")
    print(DRAWING)
    return 0


if __name__ == "__main__":
    sys.exit(main())
