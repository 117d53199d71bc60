"""The picture of a comparison: predicted shifts (across) against observed ones (up), as one self-contained SVG file.

The picture says whether the control passed, shows the noise band (where half of the concepts cannot be told from chance), and
counts what is not drawn. Colour means "clears the noise floor" and is never alone: such points are larger and filled. The
strongest are numbered and named below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from assay_server import figures
from assay_server.audit.comparison.agreement import Agreement, Estimate
from assay_server.report.markup import Html, clip, el
from assay_server.report.scale import Scale, linear, tick_label

WIDTH, LEFT, RIGHT = 768, 72, 752
TOP, BOTTOM = 84, 484
BARRED = 40  # points with error bars
NAMED = 8
LABEL_LIMIT = 40  # code points of a name and label
_CROWDED = 13  # pixels between a number and what is near it
_SIDES = ((8, 4), (-8, 4), (0, -9), (0, 17))
_STYLE = """
.assay-comparison { color-scheme: light dark; background: #fbfaf7; font: 13px system-ui, "Segoe UI", Roboto, Arial, sans-serif;
  --ink: #1d1c1a; --soft: #5a5750; --line: #dedad1; --strong: #8b867b; --clear: #005d94; --fit: #a94400; --band: #f0ede4; }
@media (prefers-color-scheme: dark) { .assay-comparison { background: #151618; --ink: #eae8e3; --soft: #b2aea5; --line: #34363a;
  --strong: #7d7a73; --clear: #7dbdf0; --fit: #f5a970; --band: #24262a; } }
.assay-comparison text { fill: var(--soft); font-variant-numeric: tabular-nums; unicode-bidi: isolate; }
.assay-comparison .head { fill: var(--ink); font-size: 17px; font-weight: 600; }
.assay-comparison .warn { fill: var(--fit); font-weight: 600; }
.assay-comparison .number { fill: var(--ink); font-size: 12px; font-weight: 600; }
.assay-comparison .band { fill: var(--band); }
.assay-comparison .grid { stroke: var(--line); }
.assay-comparison .zero { stroke: var(--strong); }
.assay-comparison .identity { stroke: var(--soft); stroke-dasharray: 6 4; }
.assay-comparison .fit { stroke: var(--fit); stroke-width: 2; }
.assay-comparison .bar { stroke: var(--clear); stroke-opacity: 0.45; }
.assay-comparison .noise { fill: none; stroke: var(--strong); }
.assay-comparison .clear { fill: var(--clear); }
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One retained concept."""

    name: str
    label: str
    predicted: float
    predicted_error: float
    observed: float
    low: float
    high: float
    clears_noise: bool


def comparison_plot(
    points: Sequence[Point],
    *,
    level: float,
    noise_error: float,
    slope: Estimate | None,
    retained: Agreement,
    above: int,
    passed: bool | None,
) -> str:
    """The picture, SVG.

    Args:
        points: the strongest retained concepts, strongest first.
        level: of the intervals.
        noise_error: median standard error of observed minus noise over all retained concepts.
        slope: of the fitted line through 0, if there is one.
        retained: agreement over all retained concepts.
        above: how many of these clear the noise floor.
        passed: whether the positive control passed; None where there was none.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    barred = [point for point in points if point.clears_noise][:BARRED]
    noise = z * noise_error
    ends = [point.predicted + sign * z * point.predicted_error for point in barred for sign in (-1, 1)]
    frame = _Frame(
        linear([*(point.predicted for point in points), *ends]),
        linear(
            [*(point.observed for point in points), *(end for point in barred for end in (point.low, point.high)), -noise, noise]
        ),
    )
    named = [point for point in points if point.clears_noise][:NAMED]
    rows = (len(named) + 1) // 2
    height = BOTTOM + 92 + 20 * rows
    said = _sentence(retained, above, passed)
    key = hashlib.sha256("\n".join([said, *map(repr, points)]).encode("utf-8", "replace")).hexdigest()[:12]
    return el(
        "svg",
        el("title", "Predicted against observed shifts", id=f"t{key}"),
        el("desc", f"{said} {_list(named)}".strip(), id=f"d{key}"),
        el("style", Html(_STYLE)),
        el("text", "Predicted against observed shifts", x=LEFT, y=30, class_="head"),
        *_standing(retained, passed),
        *_field(frame, noise, slope, f"c{key}"),
        *[bar for point in barred for bar in _bars(frame, point, z)],
        *[_dot(frame, point) for point in reversed(points)],
        *_numbers(frame, named, barred),
        *_legend(retained.concepts - len(points), level, slope),
        *_names(named),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        class_="assay-comparison",
        role="img",
        aria_labelledby=f"t{key} d{key}",
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    across: Scale
    up: Scale

    def x(self, value: float) -> float:
        return round(LEFT + self.across.percent(value) / 100 * (RIGHT - LEFT), 1)

    def y(self, value: float) -> float:
        return round(BOTTOM - self.up.percent(value) / 100 * (BOTTOM - TOP), 1)


def _sentence(retained: Agreement, above: int, passed: bool | None) -> str:
    parts = [f"{figures.plural(retained.concepts, 'retained concept')}, {figures.count(above)} of them over the noise floor."]
    if retained.pearson_squared is not None:
        parts.append(f"Squared Pearson {_part(retained.pearson_squared)}.")
    return " ".join([*parts, _control(passed)])


def _control(passed: bool | None) -> str:
    if passed is None:
        return "No positive control: whether the policy moved is not known."
    return "Positive control passed." if passed else "Positive control failed: agreement says nothing."


def _standing(retained: Agreement, passed: bool | None) -> list[Html]:
    """Agreement and control, under the heading."""
    parts = [f"{figures.plural(retained.concepts, 'retained concept')}"]
    parts += [f"squared Pearson {_part(retained.pearson_squared)}"] if retained.pearson_squared is not None else []
    parts += [f"Spearman {_part(retained.spearman)}"] if retained.spearman is not None else []
    return [
        el("text", ", ".join(parts), x=LEFT, y=51),
        el("text", _control(passed), x=LEFT, y=70, class_=None if passed else "warn"),
    ]


def _part(found: Estimate) -> str:
    value, low, high = (f"{number:.2f}".replace("-", figures.MINUS) for number in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def _field(frame: _Frame, noise: float, slope: Estimate | None, clip_id: str) -> list[Html]:
    """Band, grid, axes and lines."""
    across, up = frame.across, frame.up
    high, low = frame.y(noise), frame.y(-noise)
    parts = [
        el("clipPath", el("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP), id=clip_id),
        el("rect", x=LEFT, y=high, width=RIGHT - LEFT, height=round(low - high, 1), class_="band"),
    ]
    for tick in across.ticks:
        kind = "zero" if abs(tick) < 1e-12 else "grid"
        parts.append(el("line", x1=frame.x(tick), x2=frame.x(tick), y1=TOP, y2=BOTTOM, class_=kind))
        label = tick_label(tick, across.ticks[1] - across.ticks[0])
        parts.append(el("text", label, x=frame.x(tick), y=BOTTOM + 18, text_anchor="middle"))
    for tick in up.ticks:
        kind = "zero" if abs(tick) < 1e-12 else "grid"
        parts.append(el("line", x1=LEFT, x2=RIGHT, y1=frame.y(tick), y2=frame.y(tick), class_=kind))
        label = tick_label(tick, up.ticks[1] - up.ticks[0])
        parts.append(el("text", label, x=LEFT - 8, y=frame.y(tick) + 4, text_anchor="end"))
    parts.append(_line(frame, 1.0, "identity", clip_id))
    if slope is not None:
        parts.append(_line(frame, slope.value, "fit", clip_id))
    parts.append(el("text", "predicted: mean u over the training data", x=RIGHT, y=BOTTOM + 36, text_anchor="end"))
    turned = f"rotate(-90 14 {TOP})"
    parts.append(el("text", "observed: mean u, after over before", x=14, y=TOP, text_anchor="end", transform=turned))
    return parts


def _line(frame: _Frame, slope: float, kind: str, clip_id: str) -> Html:
    """observed = slope × predicted, cut to the frame by its own ends and by the clip."""
    low, high = frame.across.low, frame.across.high
    if slope:
        bounds = sorted((frame.up.low / slope, frame.up.high / slope))
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return el(
        "line",
        x1=frame.x(low),
        y1=frame.y(slope * low),
        x2=frame.x(high),
        y2=frame.y(slope * high),
        class_=kind,
        clip_path=f"url(#{clip_id})",
    )


def _bars(frame: _Frame, point: Point, z: float) -> list[Html]:
    x, y, wide = frame.x(point.predicted), frame.y(point.observed), z * point.predicted_error
    left, right = frame.x(point.predicted - wide), frame.x(point.predicted + wide)
    return [
        el("line", x1=left, x2=right, y1=y, y2=y, class_="bar"),
        el("line", x1=x, x2=x, y1=frame.y(point.low), y2=frame.y(point.high), class_="bar"),
    ]


def _dot(frame: _Frame, point: Point) -> Html:
    said = el("title", _spoken(point))
    return el(
        "circle",
        said,
        cx=frame.x(point.predicted),
        cy=frame.y(point.observed),
        r=4 if point.clears_noise else 2.5,
        class_="clear" if point.clears_noise else "noise",
    )


def _spoken(point: Point) -> str:
    bounds = figures.interval(point.low, point.high)
    return f"{_title(point)}: predicted {figures.signed(point.predicted)}, observed {figures.signed(point.observed)} {bounds}"


def _title(point: Point) -> str:
    return clip(f"{point.name} {point.label}".strip(), LABEL_LIMIT)


def _list(named: Sequence[Point]) -> str:
    return f"The strongest: {'; '.join(map(_spoken, named))}." if named else ""


def _numbers(frame: _Frame, named: Sequence[Point], near: Sequence[Point]) -> list[Html]:
    """The numbers beside their points, on a free side."""
    taken = [(frame.x(point.predicted), frame.y(point.observed)) for point in near]
    found: list[Html] = []
    for number, point in enumerate(named, 1):
        x, y = frame.x(point.predicted), frame.y(point.observed)

        def crowding(side: tuple[int, int], x: float = x, y: float = y) -> int:
            at = (x + 1.4 * side[0], y + side[1] - 4)
            return sum(abs(at[0] - other[0]) < _CROWDED and abs(at[1] - other[1]) < _CROWDED for other in taken)

        side = min(_SIDES, key=crowding)
        taken.append((x + 1.4 * side[0], y + side[1] - 4))
        anchor = "start" if side[0] > 0 else "end" if side[0] < 0 else "middle"
        found.append(el("text", str(number), x=x + side[0], y=y + side[1], text_anchor=anchor, class_="number"))
    return found


def _legend(left_out: int, level: float, slope: Estimate | None) -> list[Html]:
    y = BOTTOM + 62
    fitted = "" if slope is None else f"fitted line: slope {_part(slope)}"
    parts = [
        el("circle", cx=LEFT + 4, cy=y - 4, r=4, class_="clear"),
        el("text", "over the noise floor", x=LEFT + 14, y=y),
        el("rect", x=LEFT + 152, y=y - 11, width=18, height=13, class_="band"),
        el("text", "noise (median)", x=LEFT + 176, y=y),
        el("line", x1=LEFT + 284, x2=LEFT + 308, y1=y - 4, y2=y - 4, class_="identity"),
        el("text", "as predicted", x=LEFT + 314, y=y),
    ]
    if slope is not None:
        parts += [
            el("line", x1=LEFT + 412, x2=LEFT + 436, y1=y - 4, y2=y - 4, class_="fit"),
            el("text", fitted, x=LEFT + 442, y=y),
        ]
    rest = f"The {figures.count(left_out)} weakest are not drawn. " if left_out else ""
    bars = f"Bars: {100 * level:g}% intervals of the {BARRED} strongest at most."
    return [*parts, el("text", rest + bars, x=LEFT, y=y + 19)]


def _names(named: Sequence[Point]) -> list[Html]:
    rows = (len(named) + 1) // 2
    found: list[Html] = []
    for place, point in enumerate(named):
        x, y = (LEFT if place < rows else LEFT + (RIGHT - LEFT) // 2), BOTTOM + 106 + 20 * (place % max(rows, 1))
        found.append(el("text", str(place + 1), x=x + 10, y=y, text_anchor="end", class_="number"))
        found.append(el("text", _title(point), x=x + 18, y=y))
    return found
