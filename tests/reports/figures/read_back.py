"""Finds in a figure the marks of each model: by label, or by the colour and marker of its look."""

from __future__ import annotations

from itertools import cycle

from matplotlib.colors import to_hex

from reports.figures.drawing.models import Looks, contestants, looks_for


def lines_by_label(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def lines_of(axes, frame, looks: Looks | None = None) -> dict:
    """The line of each model of ``frame``, by the model's architecture and variant."""
    looks = looks or looks_for(contestants(frame))
    found = {}
    for model in contestants(frame):
        look = looks[model]
        found[model] = [
            line
            for line in axes.lines
            if line.get_alpha() != 0
            and len(line.get_xdata()) > 1
            and (to_hex(line.get_color()), line.get_marker()) == (to_hex(look.color), look.marker)
        ]
        assert len(found[model]) == 1, (model, found[model])
    return {model: lines[0] for model, lines in found.items()}


def dots(axes, color) -> list[list[float]]:
    """Places of the scattered marks of a colour that are not transparent."""
    return [
        list(place)
        for marks in axes.collections
        for place, face in zip(marks.get_offsets(), cycle(marks.get_facecolors()), strict=False)
        if to_hex(face) == to_hex(color) and face[3] == 1
    ]


def hover_texts(figure) -> list[str]:
    return [
        artist.get_gid().removeprefix("value: ")
        for axes in figure.axes
        for artist in axes.get_children()
        if (artist.get_gid() or "").startswith("value: ")
    ]
