"""Measures what the mind's decisions cost and save, and writes docs/prices.md and its pictures.

    cargo build --release
    python3 docs/prices.py

Held-out texts are cut into documents and dealt into draws, which share none; `sage eval` reads each draw under every arm. An
interrupted run goes on: finished arms are kept in the work folder (`--work`). Standard library only.
"""

import argparse
import html
import json
import math
import random
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
DRAWS, RESAMPLES, SEED = 3, 2000, 16
PIECE_CHARACTERS = 700      # of a document; fewer than 256 tokens of the small model
STATES = ("wake", "focus", "rest", "threat", "depletion", "dream")
ABLATED = ("wake", "rest", "depletion")
MECHANISMS = ("k", "miss_cap", "residency_bias", "salience_bias")
HELD = "focus"              # the state whose numbers the curves vary
PLAIN = {"f": 1.0, "residency_bias": 0, "salience_bias": 0, "miss_bytes_per_token": 0, "router_mass": 1.0, "reading_share": 1.0}
K_SHARES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
READING_SHARES = (0.5, 0.25, 0.125)
TASKS = ("facts", "sensor", "check", "list")
MASSES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


# ------------------------------------------------------------------ material

def documents(text):
    """Pieces of a text of about `PIECE_CHARACTERS`, cut at white space; what separates documents stays a border."""
    out = []
    for document in text.split("<|endoftext|>"):
        words = re.findall(r"\S+\s*", document)
        piece = ""
        for word in words:
            piece += word
            if len(piece) >= PIECE_CHARACTERS:
                out.append(piece)
                piece = ""
        if len(piece) > PIECE_CHARACTERS // 3:
            out.append(piece)
    return out


def deal(folder, texts):
    """Files `folder/draw/NAME.txt`, one for each text and draw."""
    rng = random.Random(SEED)
    draws = [folder / str(draw) for draw in range(DRAWS)]
    for path in texts:
        pieces = documents(path.read_text("utf-8"))
        rng.shuffle(pieces)
        for draw, target in enumerate(draws):
            target.mkdir(parents=True, exist_ok=True)
            (target / path.name).write_text("<|endoftext|>".join(pieces[draw::DRAWS]), "utf-8")
    return draws


# ---------------------------------------------------------------------- runs

def settings(**numbers):
    """One variation: `PLAIN` with these numbers of the held state."""
    return ",".join("mind.budgets.%s.%s=%s" % (HELD, key, value) for key, value in {**PLAIN, **numbers}.items())


def evaluate(args, name, draws, options):
    """{arm: [{domain, tokens, nll, bytes} of every document, by draw]} of a run over all draws."""
    arms = {}
    for draw, folder in enumerate(draws):
        texts = sorted(str(path) for path in folder.glob("*.txt"))
        command = [args.sage, "eval", args.model, "--text", *texts, "--limits", args.limit, "--json", "--threads", "1", "--jobs",
                   str(args.jobs), "--documents", str(args.documents), "--out", str(args.work / ("%s-%d-%d.jsonl" % (name, args.documents, draw))), *options]
        print("%s, draw %d of %d" % (name, draw + 1, DRAWS), flush=True)
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for row in report["rows"]:
            arms.setdefault(row["arm"], [[] for _ in draws])[draw].append(
                {"domain": row["document"].split(".")[0], "tokens": row["tokens"], "nll": row["nll"], "bytes": row["miss_bytes"]})
    return arms


def exact_of(arms):
    return next(rows for name, rows in arms.items() if name.startswith("exact"))


# ---------------------------------------------------------------- statistics

def resampled(draws):
    """How often each document of each draw counts, `RESAMPLES` times; the first time each counts once."""
    rng = random.Random(SEED)
    yield [[1] * len(rows) for rows in draws]
    for _ in range(RESAMPLES):
        counts = []
        for rows in draws:
            drawn = [0] * len(rows)
            for _ in rows:
                drawn[rng.randrange(len(rows))] += 1
            counts.append(drawn)
        yield counts


def sums(draws, counts, domain=None):
    """(loss a token, bytes a token) of documents that count so often."""
    tokens = nll = missed = 0.0
    for rows, drawn in zip(draws, counts):
        for row, n in zip(rows, drawn):
            if n and domain in (None, row["domain"]):
                tokens += n * row["tokens"]
                nll += n * row["nll"]
                missed += n * row["bytes"]
    return (nll / tokens, missed / tokens) if tokens else (math.nan, math.nan)


def interval(values):
    """(the first, percentile 2.5 and 97.5 of the rest)."""
    first, rest = values[0], sorted(value for value in values[1:] if math.isfinite(value))
    if not rest:
        return first, math.nan, math.nan
    at = lambda share: rest[min(len(rest) - 1, int(share * len(rest)))]
    return first, at(0.025), at(0.975)


def against(mine, other, domain=None):
    """((loss more, %), (bytes more, %)) of an arm against another over the same documents, each with its interval."""
    loss, missed = [], []
    for counts in resampled(mine):
        (a, x), (b, y) = sums(mine, counts, domain), sums(other, counts, domain)
        loss.append(100 * (math.exp(a - b) - 1))
        missed.append(100 * (x / y - 1) if y else math.nan)
    return interval(loss), interval(missed)


def each_draw(mine, other):
    """Loss more in each draw by itself, %."""
    out = []
    for a, b in zip(mine, other):
        (x, _), (y, _) = sums([a], [[1] * len(a)]), sums([b], [[1] * len(b)])
        out.append(100 * (math.exp(x - y) - 1))
    return out


def bytes_at(curve, loss):
    """Bytes that a curve [(loss, bytes)] takes for this loss; none beyond its ends."""
    points = sorted(curve)
    for (a, x), (b, y) in zip(points, points[1:]):
        if a <= loss <= b and b > a:
            return x + (y - x) * (loss - a) / (b - a)
    return math.nan


def at_equal_loss(arm, rival):
    """Bytes of an arm against those of a rival's curve at the arm's loss, %, with its interval."""
    shares = []
    for counts in resampled(arm):
        loss, missed = sums(arm, counts)
        other = bytes_at([sums(one, counts) for one in rival], loss)
        shares.append(100 * (missed / other - 1) if other else math.nan)
    return interval(shares)


# --------------------------------------------------------------------- pages

def told(found, unit=" %"):
    value, low, high = found
    if not math.isfinite(value):
        return "–"
    if low <= 0 <= high:
        return "tie (%+.1f%s)" % (value, unit)
    return "%+.1f%s [%+.1f, %+.1f]" % (value, unit, low, high)


def table(titles, rows):
    return "\n".join(["| %s |" % " | ".join(titles), "|%s" % ("---|" * len(titles))] + ["| %s |" % " | ".join(row) for row in rows])


def kib(missed):
    return "%.0f KiB" % (missed / 1024)


def picture(path, title, curves):
    """Loss over bytes; curves are {name: [(bytes, % more perplexity)]}."""
    width, height, left, right, top, bottom = 760, 380, 64, 190, 44, 56
    points = [point for curve in curves.values() for point in curve]
    most_bytes, most_loss = max(b for b, _ in points), max(max(v for _, v in points), 1.0)
    x = lambda b: left + (width - left - right) * b / most_bytes
    y = lambda v: top + (height - top - bottom) * (1 - max(v, 0) / most_loss)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-family="system-ui, sans-serif" '
           'font-size="13" fill="#777">' % (width, height), "<title>%s</title>" % html.escape(title),
           '<text x="%d" y="22" font-size="15">%s</text>' % (left, html.escape(title))]
    for step in range(5):
        value, missed = most_loss * step / 4, most_bytes * step / 4
        out.append('<path d="M%d %.1fH%d" stroke="#999" stroke-opacity="0.35"/>' % (left, y(value), width - right))
        out.append('<text x="%d" y="%.1f" text-anchor="end">+%.0f %%</text>' % (left - 8, y(value) + 4, value))
        out.append('<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>' % (x(missed), height - bottom + 20, missed / 1024))
    out.append('<text x="%d" y="%d" text-anchor="middle">KiB missed a token</text>' % ((left + width - right) // 2, height - 14))
    styles = (("#0072b2", ""), ("#d55e00", "7 4"), ("#009e73", "2 3"), ("#cc79a7", "9 3 2 3"))
    for at, ((name, curve), (colour, dashes)) in enumerate(zip(curves.items(), styles)):
        line = " ".join("%.1f,%.1f" % (x(b), y(v)) for b, v in sorted(curve))
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5" stroke-dasharray="%s"/>' % (line, colour, dashes))
        out += ['<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>' % (x(b), y(v), colour) for b, v in curve]
        row = top + 14 + 26 * at
        out.append('<path d="M%d %dh26" stroke="%s" stroke-width="2.5" stroke-dasharray="%s"/>' % (width - right + 14, row, colour, dashes))
        out.append('<text x="%d" y="%d">%s</text>' % (width - right + 48, row + 4, html.escape(name)))
    path.write_text("\n".join(out + ["</svg>"]) + "\n", "utf-8")


def states_page(args, draws):
    """What each state costs, read one token a step and in chunks."""
    out, domains = [], sorted({path.stem for path in draws[0].glob("*.txt")})
    for words, chunk in (("In decoding: one token a step", 1), ("In reading: chunks of %d tokens" % args.chunk, args.chunk)):
        arms = evaluate(args, "states-%d" % chunk, draws, ["--states", ",".join(STATES), "--chunk", str(chunk)])
        exact, rows = exact_of(arms), []
        for name, arm in arms.items():
            whole = [[1] * len(rows_) for rows_ in arm]
            loss, missed = against(arm, exact)
            is_exact = arm is exact
            by_domain = [told(against(arm, exact, domain)[0]) for domain in domains]
            rows.append([name.split()[0], kib(sums(arm, whole)[1])]
                        + (["–"] * (3 + len(domains)) if is_exact else
                           [told(missed), told(loss), ", ".join("%+.1f" % v for v in each_draw(arm, exact))] + by_domain))
        out += ["### %s" % words, "", table(["state", "missed a token", "bytes", "perplexity", "in each draw, %"] + domains, rows), ""]
    return out


def ablation_page(args, draws):
    """Each mechanism left out, and each alone."""
    names = ",".join(MECHANISMS)
    out = []
    for chunk, states in ((1, ABLATED), (args.chunk, ABLATED[:2])):
        arms = evaluate(args, "ablation-%d" % chunk, draws,
                        ["--states", ",".join(states), "--chunk", str(chunk), "--without", names, "--only", names])
        exact, rows = exact_of(arms), []
        for name, arm in arms.items():
            if arm is exact:
                continue
            parts = name.split()
            unvaried = arms[" ".join(parts[:3])]
            varied = " ".join(parts[3:])
            changed = [told(found) for found in against(arm, unvaried)] if varied else ["", ""]
            loss, missed = against(arm, exact)
            rows.append([parts[0], varied.replace("_", " ") or "**all**", told(missed), told(loss), changed[1], changed[0]])
        out += ["### %s" % ("In decoding" if chunk == 1 else "In reading, chunks of %d tokens" % chunk), "",
                table(["state", "mechanisms", "bytes against exact", "perplexity against exact", "bytes against all",
                       "perplexity against all"], rows), ""]
    return out


def curves_page(args, draws):
    """Fewer experts by a fixed k against fewer by router mass, at equal loss."""
    out = []
    for chunk in (1, args.chunk):
        options = ["--states", HELD, "--chunk", str(chunk)]
        fixed = {share: settings(f=share) for share in K_SHARES}
        by_mass = {mass: settings(router_mass=mass) for mass in MASSES}
        for variation in [settings(), *fixed.values(), *by_mass.values()]:
            options += ["--vary", variation]
        arms = evaluate(args, "mass-%d" % chunk, draws, options)
        arm = lambda variation: next(rows for name, rows in arms.items() if name.endswith(" " + variation))
        exact = exact_of(arms)
        rival = [arm(settings())] + [arm(variation) for variation in fixed.values()]
        where = "decoding" if chunk == 1 else "reading"
        rows = []
        for mass, variation in by_mass.items():
            mine = arm(variation)
            loss, missed = against(mine, exact)
            rows.append(["%g" % mass, told(missed), told(loss), told(at_equal_loss(mine, rival))])
        for share, variation in fixed.items():
            loss, missed = against(arm(variation), exact)
            rows.append(["k = %g" % (8 * share), told(missed), told(loss), ""])
        whole = [[1] * len(rows_) for rows_ in exact]
        point = lambda one: (sums(one, whole)[1], 100 * (math.exp(sums(one, whole)[0] - sums(exact, whole)[0]) - 1))
        curves = {"fixed k": [point(one) for one in rival],
                  "router mass": [point(arm(settings()))] + [point(arm(variation)) for variation in by_mass.values()]}
        picture(HERE / ("prices-%s.svg" % where), "Perplexity over bytes, in %s" % where, curves)
        out += ["### In %s" % where, "", "![Perplexity over bytes in %s](prices-%s.svg)" % (where, where), "",
                table(["router mass", "bytes against exact", "perplexity against exact", "bytes against fixed k at equal perplexity"], rows), ""]
    return out


def reading_page(args):
    """Prompts read with fewer experts than answers are written with."""
    arms = {"k = %g in reading" % (8 * share): settings(reading_share=share) for share in READING_SHARES}
    both = {"k = %g in both" % (8 * share): settings(f=share) for share in READING_SHARES}
    options = [part for variation in [settings(), *arms.values(), *both.values()] for part in ("--vary", variation)]
    tasks = [str(ROOT / "models/tiny/tasks" / (task + ".jsonl")) for task in TASKS]
    command = [args.sage, "eval", args.model, "--tasks", *tasks, "--items", str(args.items), "--limits", args.limit, "--json",
               "--threads", "1", "--jobs", str(args.jobs), "--out", str(args.work / ("reading-%d.jsonl" % args.items)),
               "--states", HELD, *options]
    print("reading", flush=True)
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    found = {arm["variation"]: arm["tasks"] for arm in report["arms"] if arm["variation"]}
    whole, rows = found[settings()], []
    for name, variation in {"k = 8": settings(), **arms, **both}.items():
        tasks, flags = found[variation], []
        of = lambda wanted: [row for row in report["rows"] if row["arm"].endswith(" " + wanted)]
        for mine, other in zip(of(variation), of(settings())):
            flags.append((100.0 * (mine["correct"] - other["correct"]), mine["miss_bytes"], other["miss_bytes"]))
        rng, points, missed = random.Random(SEED), [], []
        for n in range(RESAMPLES + 1):
            drawn = flags if n == 0 else rng.choices(flags, k=len(flags))
            points.append(sum(f[0] for f in drawn) / len(drawn))
            missed.append(100 * (sum(f[1] for f in drawn) / sum(f[2] for f in drawn) - 1))
        rows.append([name, "%.1f %%" % (100 * tasks["exact_match"]["value"]), kib(tasks["bytes_per_token"])]
                    + (["–", "–"] if tasks is whole else [told(interval(points), " points"), told(interval(missed))]))
    return ["%d items of %s." % (whole["items"], ", ".join(TASKS)), "",
            table(["experts a token", "right", "missed a token", "right, against k = 8", "bytes, against k = 8"], rows), ""]


PAGE = """# What the mind's decisions cost and save

Written by `python3 docs/prices.py{options}` from `sage eval`; every figure here is measured on `{model}` with room for {limit} of its
experts, on {documents} documents of held-out texts ({tokens:,} scored tokens) in {draws} draws that share none. "Bytes" are logical
bytes of experts that were asked for and not in memory. Against exact routing under the same limit; brackets are 95 % intervals over
documents, resampled within their draws, and `tie` is an interval that contains 0. Small models sit nearer to chance in their routing
than large ones: how much is saved at a given price will not carry over. Sounds, pictures and speech are not priced here.

## What a state costs

{states}
## Each mechanism left out, and alone

Against the same state with all of them. Where nothing is missed less and nothing is lost, a mechanism does nothing there.

{ablation}
## Fewer experts: a fixed number, or a share of the router's mass

The state's k is the trained one; a token has experts enough when they have this share of the mass of its k best
(`mind.budgets.STATE.router_mass`), more for salient tokens. The rival is a fixed k at the same perplexity, between the two k that
are nearest.

{curves}
## Reading with fewer experts than writing

Prompts are read with fewer experts a token (`mind.budgets.STATE.reading_share`), answers are written with the trained number; beside
it the same number in both.

{reading}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sage", default=str(ROOT / "target/release/sage"))
    parser.add_argument("--model", default="models/tiny")
    parser.add_argument("--texts", nargs="+", type=Path, default=sorted((ROOT / "models/tiny/heldout").glob("*.txt")))
    parser.add_argument("--limit", default="50slots", help="of every arm's process")
    parser.add_argument("--chunk", type=int, default=128, help="tokens of a chunk, in reading")
    parser.add_argument("--documents", type=int, default=1000, help="of each text in each draw, at most")
    parser.add_argument("--items", type=int, default=100, help="of each task")
    parser.add_argument("--jobs", type=int, default=2, help="arms side by side")
    parser.add_argument("--work", type=Path, default=ROOT / "target/prices")
    args = parser.parse_args()
    draws = deal(args.work / "texts", args.texts)
    pages = {"states": states_page(args, draws), "ablation": ablation_page(args, draws), "curves": curves_page(args, draws),
             "reading": reading_page(args)}
    rows = exact_of(evaluate(args, "states-1", draws, ["--states", ",".join(STATES), "--chunk", "1"]))
    options = "" if args.documents == parser.get_default("documents") else " --documents %d" % args.documents
    page = PAGE.format(options=options, model=args.model, limit=args.limit.replace("slots", ""), draws=DRAWS,
                       documents=sum(map(len, rows)), tokens=sum(row["tokens"] for draw in rows for row in draw),
                       **{name: "\n".join(lines) for name, lines in pages.items()})
    (HERE / "prices.md").write_text(page.rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
