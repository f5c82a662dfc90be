"""Draws docs/memory.svg from docs/memory.csv: tokens a second over the memory limit.

    python3 docs/memory.py
"""

import csv
import html
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT = 790, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 240, 46, 52
# Colours that a reader tells apart on white and on black, and without colour by the marks.
STYLES = [
    ("#8a8a8a", "none", "3 4"),
    ("#d55e00", "square", ""),
    ("#0072b2", "circle", ""),
    ("#009e73", "triangle", ""),
    ("#cc79a7", "diamond", ""),
]


def read():
    """Rows of the file by series, in the order in which they first appear: limit in GiB (or `none`), tokens a second."""
    series = {}
    with open(HERE / "memory.csv", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            series.setdefault(row["series"], []).append((row["limit_gib"], float(row["tokens_per_second"])))
    return series


def main():
    series = read()
    limits = sorted({limit for rows in series.values() for limit, _ in rows if limit != "none"}, key=float)
    places = {limit: at for at, limit in enumerate([*limits, "none"])}
    top = max(rate for rows in series.values() for _, rate in rows)
    ceiling = next(step for step in range(2, 100, 2) if step >= top)
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(limit):
        return LEFT + inner_width * (places[limit] + 0.35) / (len(places) - 0.3)

    def y(rate):
        return TOP + inner_height * (1 - rate / ceiling)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#777">',
        "<title>Tokens a second over the memory limit</title>",
        f'<text x="{LEFT}" y="22" font-size="15">48 layers at 4 bits (16 GB of experts): tokens a second, by memory limit</text>',
    ]
    for rate in range(0, ceiling + 1, max(1, ceiling // 6)):
        out.append(f'<path d="M{LEFT} {y(rate):.1f}H{WIDTH - RIGHT}" stroke="#999" stroke-opacity="0.35"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate}</text>')
    for limit in places:
        words = "no limit" if limit == "none" else f"{limit} GiB"
        out.append(f'<text x="{x(limit):.1f}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle">{words}</text>')
    for (name, rows), (colour, mark, dashes) in zip(series.items(), STYLES):
        rows = sorted(rows, key=lambda row: places[row[0]])
        points = " ".join(f"{x(limit):.1f},{y(rate):.1f}" for limit, rate in rows)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>')
        for limit, rate in rows:
            if mark == "circle":
                out.append(f'<circle cx="{x(limit):.1f}" cy="{y(rate):.1f}" r="4.5" fill="{colour}"/>')
            elif mark == "square":
                out.append(f'<rect x="{x(limit) - 4.5:.1f}" y="{y(rate) - 4.5:.1f}" width="9" height="9" fill="{colour}"/>')
            elif mark == "triangle":
                out.append(f'<path d="M{x(limit):.1f} {y(rate) - 6:.1f}l5.5 10h-11z" fill="{colour}"/>')
            elif mark == "diamond":
                out.append(f'<path d="M{x(limit):.1f} {y(rate) - 6:.1f}l6 6l-6 6l-6 -6z" fill="{colour}"/>')
    for at, (name, (colour, _, dashes)) in enumerate(zip(series, STYLES)):
        line = TOP + 14 + 46 * at
        out.append(f'<path d="M{WIDTH - RIGHT + 14} {line}h26" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>')
        for number, words in enumerate(html.escape(name).split("; ")):
            out.append(f'<text x="{WIDTH - RIGHT + 46}" y="{line + 4 + 16 * number}">{words}</text>')
    out.append("</svg>")
    (HERE / "memory.svg").write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
