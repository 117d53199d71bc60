"""Numbers for people: true minus signs, thousands separators, no more digits than are certain.

`report/assets/format.js` does the same in the browser; a test compares the two.
"""

from __future__ import annotations

import datetime
import math

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(value: int) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,}".replace("-", MINUS)


def signed(value: float, digits: int = 0) -> str:
    """An effect: "+0.412", "−0.031"; small ones keep two digits, unless a number of digits is given."""
    text = f"{abs(value):.{digits or _digits(value)}f}"
    if not text.strip("0."):
        return "0"
    return ("+" if value > 0 else MINUS) + text


def interval(low: float, high: float) -> str:
    """ "[+0.380, +0.440]", both ends to the same digit."""
    digits = _digits(max(abs(low), abs(high)))
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def _digits(value: float) -> int:
    return 3 if abs(value) >= 0.0095 else 4 if abs(value) >= 0.00095 else 5


def probability(value: float) -> str:
    """A p- or q-value: "0.032", "4 × 10⁻⁷", "under 10⁻³⁰⁰" for what a double cannot hold."""
    if value <= 0:
        return "under 10⁻³⁰⁰"
    if value >= 0.001:
        return f"{value:.3f}" if value < 0.9995 else "1"
    exponent = math.floor(math.log10(value))
    mantissa = math.floor(value / 10.0**exponent + 0.5) if exponent > -300 else 1
    if mantissa >= 10:
        mantissa, exponent = 1, exponent + 1
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return power if mantissa == 1 else f"{mantissa}{THIN}×{THIN}{power}"


def share(part: float, whole: float) -> str:
    """73%, never 100% or 0% where something is missing or there."""
    if whole <= 0:
        return "0%"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "under 1%"
    if 99 < percent < 100:
        return "over 99%"
    return f"{percent:.0f}%"


def seconds(value: float) -> str:
    """A duration: "0.4 s", "12 s", "3 min 20 s", "2 h 05 min"."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def instant(value: float) -> str:
    """UNIX seconds as "24 November 2026, 05:46 UTC"; "" for 0."""
    if value <= 0:
        return ""
    moment = datetime.datetime.fromtimestamp(value, datetime.UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def plural(value: int, one: str, many: str = "") -> str:
    """ "1 pair", "3 pairs"."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"
