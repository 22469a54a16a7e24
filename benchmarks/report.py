"""docs/benchmarks.md and its plot, from the numbers of one run of the command."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.contest import ALL, LOOP, WARM_UP, Result
from benchmarks.latency import Latency

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PLOT = PAGE.with_name("benchmarks.svg")

HEAD = """# Benchmarks

Written by `make bench` on {day}: {machine}, Python {python}, confluent-kafka {client}.
Absolute numbers are worth nothing elsewhere: run it where you are. What bounds kpipe's numbers is in
[performance.md](performance.md).

## What an event costs

{events:,} OrderCreated events of about {size} bytes in 3 partitions: consume, decode, validate, transform, validate
the output, produce it keyed with `acks=all` and idempotence, commit after. Everybody has the same JSON reader (orjson),
validator (jsonschema-rs) and transformation (`benchmarks/project/workload.py`). kpipe runs by `kpipe up` with all that
it has by default: contracts, deduplication, retries armed, deadline and journal of what is in flight, lineage headers,
accounting, status. The others have none of these.

Medians of {repeats} interleaved run(s): one of each, then the next of each; "times the loop" is the median of the
ratios within a round. A run starts when the process is connected and has worked off {warm_up:,} events, and ends when
the last output is in Kafka. Processor time is that of the process alone, all its threads. The slow get fewer events.

| | µs of processor an event | times the loop | events/s | times the loop | memory (MB) |
|---|---|---|---|---|---|
"""

LATENCY = """
## Latency

From just before the event is produced until its output is received, at a steady rate, in milliseconds. The loop is the
one that waits for a first event and then takes what is there; the one in the table above waits until its batch is full.
At 5,000 events/s whoever produces them collects for 1 ms, or else only the broker's requests are measured.

| events/s | | p50 | p99 |
|---|---|---|---|
"""


def write(
    results: Mapping[str, Sequence[Result]],
    latencies: Mapping[tuple[int, str], Sequence[Latency]],
    more: Sequence[str],
    failed: Mapping[str, str],
    *,
    events: int,
    repeats: int,
    size: int,
) -> None:
    """The page and the plot; `more` are sections of their own, `failed` says who could not run, and why."""
    titles = {one.name: one.title for one in ALL}
    text = HEAD.format(
        day=datetime.now(UTC).date(), machine=machine(), python=platform.python_version(), client=_client(),
        events=events, repeats=repeats, size=size, warm_up=WARM_UP,
    )  # fmt: skip
    text += "".join(_rows({titles[name]: runs for name, runs in results.items()}))
    for name, why in failed.items():
        text += f"\n{titles[name]} did not run: {why}.\n"
    if results:
        text += "\n![Processor time an event](benchmarks.svg)\n"
        bars = {titles[name]: 1e6 * median(run.cpu for run in runs) for name, runs in results.items()}
        PLOT.write_text(plot(bars), encoding="utf-8")
    if latencies:
        text += LATENCY
        for (rate, name), runs in latencies.items():
            p50, p99 = median(run.p50 for run in runs), median(run.p99 for run in runs)
            text += f"| {rate:,} | {titles[name]} | {p50:.1f} | {p99:.1f} |\n"
    text += "".join(f"\n{section}" for section in more)
    PAGE.write_text(text, encoding="utf-8")


def _rows(results: Mapping[str, Sequence[Result]]) -> list[str]:
    loop = results.get(LOOP.title)
    rows = []
    for title, runs in sorted(results.items(), key=lambda item: median(run.cpu for run in item[1])):
        cpu, rate = median(run.cpu for run in runs), median(run.rate for run in runs)
        rss = median(run.rss for run in runs) / 1e6
        # Of runs beside each other: what the machine did meanwhile, it did to both.
        costs = rates = "-"
        if loop is not None:
            costs = f"{median(run.cpu / other.cpu for run, other in zip(runs, loop, strict=False)):.2f}"
            rates = f"{median(run.rate / other.rate for run, other in zip(runs, loop, strict=False)):.2f}"
        rows.append(f"| {title} | {1e6 * cpu:.1f} | {costs} | {rate:,.0f} | {rates} | {rss:.0f} |\n")
    return rows


def plot(bars: Mapping[str, float]) -> str:
    """Horizontal bars on a logarithmic scale, as SVG."""
    from math import log10

    height, left, wide, low = 26, 210, 420, 1.0
    top = max(10.0, *bars.values())
    size = f'width="{left + wide + 90}" height="{height * len(bars) + 40}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="18" font-weight="bold">µs of processor an event (logarithmic)</text>',
    ]
    for row, (title, value) in enumerate(sorted(bars.items(), key=lambda item: item[1])):
        y = 30 + row * height
        width = max(2.0, wide * log10(max(value, low) / low) / log10(top / low))
        colour = "#d9480f" if title == "kpipe" else "#74808c"
        lines.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{title}</text>')
        lines.append(f'<rect x="{left}" y="{y}" width="{width:.0f}" height="{height - 7}" fill="{colour}"/>')
        lines.append(f'<text x="{left + width + 6:.0f}" y="{y + 15}">{value:.1f}</text>')
    return "\n".join([*lines, "</svg>\n"])


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}, Apache Kafka on the same"


def _client() -> str:
    import confluent_kafka

    return str(confluent_kafka.__version__)
