"""Makes the table of tools/compare from what it measured, and puts it into the README.

table.py FOLDER REPEATS           prints the table
table.py --write TABLE README     puts a printed table between the marks of the README
"""

import datetime
import os
import platform
import statistics
import sys

BEGIN = "<!-- compare: tools/compare --write replaces what follows -->"
END = "<!-- compare: end -->"
RIVALS = {
    "clearway": "Clearway",
    "dpdk": "DPDK's libraries",
    "xdp": "XDP program",
    "nftables": "Linux forwarding and nftables",
    "ovs": "Open vSwitch, userspace datapath",
    "vpp": "VPP",
}
COLUMNS = {"small": "10,000 flows", "million": "1,000,000 flows", "new": "every packet a new flow"}


def rows(folder, name, separator=None):
    with open(os.path.join(folder, name)) as file:
        return [line.rstrip("\n").split(separator) for line in file if line.strip()]


def processor():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith(("model name", "Model"))]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} CPUs"


def number(ns):
    return f"{ns:,.1f}" if ns < 100 else f"{ns:,.0f}"


def cell(values, own):
    """Median, spread, and how many times as long as Clearway."""
    if not values:
        return "–"
    median = statistics.median(values)
    text = f"{number(median)} ({number(min(values))}–{number(max(values))})"
    if not own:
        return text
    times = median / statistics.median(own)
    return f"{text} **×{times:,.{0 if times >= 100 else 1 if times >= 1 else 2}f}**"


def behind(figures):
    """Where a rival needs less than Clearway, as sentences."""
    for column, title in COLUMNS.items():
        own = figures.get(("clearway", column))
        others = [name for rival, name in RIVALS.items() if rival != "clearway" and (rival, column) in figures
                  and own and statistics.median(figures[rival, column]) < statistics.median(own)]
        if others:
            yield f"Faster than Clearway at {title}: {', '.join(others)}."


def table(folder, repeats):
    figures = {}
    for rival, column, ns in rows(folder, "results"):
        figures.setdefault((rival, column), []).append(float(ns))
    notes = {rival: text for rival, text in rows(folder, "notes", "\t")}
    about = {row[0]: row[1:] for row in rows(folder, "about", "\t")}
    calibration = [[float(x) for x in row[:2]] for row in rows(folder, "calibration")]
    clocks, lines = ([row[i] for row in calibration] for i in (0, 1))
    today = datetime.date.today().isoformat()
    yield f"Measured on {today} by `tools/compare`: {processor()}, Linux {platform.release()};"
    yield f"clock {min(clocks):.2f} to {max(clocks):.2f} GHz (dependent adds), {min(lines):.0f} to {max(lines):.0f} ns for a random cache line out of 128 MiB."
    yield "One core, memory to memory: 64-byte inner packets, UDP and TCP, in GRE with a key; 16 customers with 1,000 routes"
    yield f"each, 100 rules. Nanoseconds per packet: median of {repeats} (lowest–highest), times Clearway, which ran first and last."
    yield ""
    yield f"| | {' | '.join(COLUMNS.values())} |"
    yield "|---|" + "---:|" * len(COLUMNS)
    for rival, title in RIVALS.items():
        if rival in about or rival in notes:
            name = about.get(rival, [title])[0]
            if rival in notes:
                yield f"| {name} | {notes[rival]} |" + " |" * (len(COLUMNS) - 1)
                continue
            own = [figures.get(("clearway", column)) if rival != "clearway" else None for column in COLUMNS]
            yield f"| {name} | " + " | ".join(cell(figures.get((rival, c)), o) for c, o in zip(COLUMNS, own)) + " |"
    yield ""
    yield "All rivals get the same frames, made by one program; Clearway's come from `clearway bench` with the same numbers."
    for rival, title in RIVALS.items():
        if rival in about and rival not in notes:
            _, does, lacks = about[rival]
            yield f"- {title}: {does}. Without: {lacks}."
    slower = list(behind(figures))
    if any(rival == "clearway" for rival, _ in figures) and len({rival for rival, _ in figures}) > 1:
        yield ""
        yield " ".join(slower) if slower else "Clearway leads every row."


def write(table_file, readme):
    with open(table_file) as file:
        new = file.read()
    with open(readme) as file:
        text = file.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"{readme} needs the two lines\n{BEGIN}\n{END}")
    head, rest = text.split(BEGIN)
    text = f"{head}{BEGIN}\n\n{new}\n{END}{rest.split(END)[1]}"
    with open(readme, "w") as file:
        file.write(text)


if sys.argv[1] == "--write":
    write(sys.argv[2], sys.argv[3])
else:
    print("\n".join(table(sys.argv[1], sys.argv[2])))
