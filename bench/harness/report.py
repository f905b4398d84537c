"""Results as Markdown, and the newest of them into the README."""

import json
import re

from .machine import RESULTS, TOP, BenchError

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def table(header, rows):
    """A Markdown table."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratio(value, other):
    """How many times another figure this one is."""
    return f"{value / other:.2f} ×" if other else "–"


def of_runs(result):
    """What kind of figures the tables hold."""
    return f"medians of {result['runs']} runs" if result["runs"] > 1 else "one run"


def throughput_rows(contestants, peers):
    """One row for each contestant; `peers` says for each with whom its rate is compared."""
    rows = []
    for name, result in contestants.items():
        median = result["median"]
        rate = median["records_per_second"]
        compared = [ratio(rate, contestants[peer]["median"]["records_per_second"]) for peer in peers(name)]
        rows.append(
            [
                name,
                f"{rate:,.0f}",
                *compared,
                f"{median['cpu_seconds_per_million']:.2f}",
                f"{median['peak_mib']:,.0f} MiB",
            ]
        )
    return rows


def realtime(result):
    """A backlog through the real-time path."""

    def peers(name):
        guarantee = name.split(", ")[1]
        return [f"raw copy, {guarantee}", f"raw copy of the output, {guarantee}", f"Kafka Streams, {guarantee}"]

    header = ["contestant", "records/s", "to raw copy", "to raw copy of the output", "to Kafka Streams", "CPU s per million", "peak memory"]
    return (
        f"**Real-time path**, a backlog of {result['records']:,} records, {of_runs(result)}\n\n"
        + table(header, throughput_rows(result["contestants"], peers))
    )


def delay(result):
    """From produced to received."""
    rows = [
        [name, f"{median['p50_ms']:.2f} ms", f"{median['p99_ms']:.2f} ms"]
        for name, median in ((name, contestant["median"]) for name, contestant in result["contestants"].items())
    ]
    return (
        f"**Delay**, from produced to received by a read_committed reader, {result['seconds']} s each, "
        f"{of_runs(result)}\n\n" + table(["contestant", "p50", "p99"], rows)
    )


def ingest(result):
    """A backlog into a Delta table."""
    header = ["contestant", "records/s", "to Python", "to raw read", "CPU s per million", "peak memory"]
    text = (
        f"**OLAP path**, a backlog of {result['records']:,} records into a Delta table on MinIO, committed, "
        f"{of_runs(result)}\n\n" + table(header, throughput_rows(result["contestants"], lambda _: ["Python", "raw read"]))
    )
    files = result["files"]
    peer = files["pyarrow_zstd_3_bytes"]
    sizes = [
        [name, f"{count}", f"{size / files['rows']:.1f}", ratio(size, peer)]
        for name, count, size in (
            ("as ingested", files["ingested"]["files"], files["ingested"]["bytes"]),
            ("after `olap compact`", files["compacted"]["files"], files["compacted"]["bytes"]),
            ("pyarrow, zstd level 3", "–", peer),
        )
    ]
    return text + "\n\n" + table([f"files of {files['rows']:,} rows", "files", "bytes per row", "to pyarrow"], sizes)


def compact(result):
    """Many small files into few."""
    names = {"compact": "deltalake optimize.compact", "z_order": "deltalake optimize.z_order"}
    peer = result["contestants"]["compact"]["median"]["seconds"]
    rows = []
    for name, contestant in result["contestants"].items():
        median = contestant["median"]
        rows.append(
            [
                names.get(name, name),
                f"{median['seconds']:.1f} s",
                ratio(peer, median["seconds"]),
                f"{median['cpu_seconds_per_million']:.2f}",
                f"{median['peak_mib']:,.0f} MiB",
                f"{median['files']:.0f}",
                f"{median['bytes'] / result['rows']:.1f}",
            ]
        )
    header = ["contestant", "whole process", "speed to optimize.compact", "CPU s per million", "peak memory", "files", "bytes per row"]
    before = result["before"]
    return (
        f"**Compaction**, {result['rows']:,} rows of one day in {before['files']} files of "
        f"{before['bytes'] / result['rows']:.1f} bytes a row on the local disk, {of_runs(result)}\n\n" + table(header, rows)
    )


def audit(result):
    """A lake and its topics, compared."""
    rows = []
    for name, contestant in result["contestants"].items():
        median = contestant["median"]
        rows.append(
            [
                name,
                f"{median['records_per_second']:,.0f}",
                f"{median['cpu_seconds_per_million']:.2f}",
                f"{median['peak_mib']:,.0f} MiB",
                f"{median['seconds']:.1f} s",
            ]
        )
    header = ["contestant", "records and rows/s", "CPU s per million", "peak memory", "seconds"]
    return (
        f"**Audit** of {result['records']:,} logins on MinIO beside the input topic and the topics of the speed path, "
        f"{of_runs(result)}\n\n" + table(header, rows)
    )


def query(result):
    """SQL on a lake."""
    rows = []
    for name, contestant in result["contestants"].items():
        median = contestant["median"]
        inside = f"{median['query_ms']:,.0f} ms" if "query_ms" in median else "–"
        rows.append([name, f"{median['process_ms']:,.0f} ms", inside, f"{median['peak_mib']:,.0f} MiB"])
    return (
        f"**Queries**, {result['rows']:,} rows over {result['days']} days on the local disk and on MinIO, {of_runs(result)}; "
        "DuckDB reads MinIO through pyarrow, because its own extension is not on PyPI\n\n"
        + table(["contestant", "whole process", "the query alone", "peak memory"], rows)
    )


def commits(result):
    """A long log."""
    rows = []
    for name, contestant in result["contestants"].items():
        median = contestant["median"]
        inside = f"{median['open_ms']:,.0f} ms" if "open_ms" in median else "–"
        rows.append([name, f"{median['process_ms']:,.0f} ms", inside, f"{median['peak_mib']:,.0f} MiB"])
    return (
        f"**Opening a table** of {result['commits']:,} commits, {result['behind_checkpoint']} of them behind the checkpoint, and "
        f"`count(*)` by its log, {of_runs(result)}\n\n"
        + table(["contestant", "whole process", "the opening alone", "peak memory"], rows)
    )


def hourly(result):
    """SQL on the batch view."""
    rows = []
    for name, contestant in result["contestants"].items():
        median, view = contestant["median"], result["views"][name.split(", ", 1)[1]]
        rows.append(
            [
                name,
                f"{median['process_ms']:,.0f} ms",
                f"{median['cpu_ms']:,.0f} ms",
                f"{median['peak_mib']:,.0f} MiB",
                f"{view['rows']:,}",
                f"{view['files']}",
                f"{view['commits_after_checkpoint']} of {view['commits']}",
            ]
        )
    header = ["`sql/hourly/`, rows of `logins`", "whole process", "CPU", "peak memory", "rows of the view", "files", "commits read"]
    return (
        f"**The batch view** over {result['days']} days on the local disk, at most {result['limit_ms']} ms are wanted, "
        f"{of_runs(result)}\n\n" + table(header, rows)
    )


def memory(result):
    """Resident memory over a backlog."""
    rows = [
        [name, f"{run['peak_mb']:,.0f} MB", f"{run['seconds']:,.0f} s"] for name, run in result["contestants"].items()
    ]
    return (
        f"**Memory of `olap ingest`**, a backlog of {result['records']:,} records to MinIO, default settings; at most "
        f"{result['limit_mb']} MB are wanted ([drawn](docs/images/ingest-memory.svg))\n\n"
        + table(["backlog", "peak memory", "whole process"], rows)
    )


def fresh(result):
    """The fresh answer."""
    names = {
        "backlog": "`sql/top_regions.sql`, two columns",
        "no-column": "`count(*)`, no column",
        "every-column": "every column",
        "no-time": "events of days to come: nothing is decoded",
    }
    found = {name: contestant["median"] for name, contestant in result["contestants"].items()}
    rows = [
        [
            f"{result['records']:,} records, {what}",
            f"{found[name]['seconds'] * 1e3:,.0f} ms",
            f"{found[name]['records_per_second']:,.0f}",
            f"{found[name]['cpu_seconds_per_million']:.2f} s",
            f"{found[name]['peak_mib']:,.0f} MiB",
        ]
        for name, what in names.items()
        if name in found
    ]
    step = found["step"]
    rows.append(
        [
            f"{result['step']:,} records, two columns, since they were acknowledged",
            f"{step['seconds'] * 1e3:,.0f} ms",
            "–",
            "–",
            f"{step['peak_mib']:,.0f} MiB",
        ]
    )
    return (
        f"**Fresh answers**, `olap query --fresh` beside a table that holds none of these records, {of_runs(result)}\n\n"
        + table(["the rest of the topic", "whole process", "records/s", "CPU per million", "peak memory"], rows)
    )


def cluster(result):
    """A cluster beside one process."""
    rows = []
    for name, contestant in result["contestants"].items():
        median, alone = contestant["median"], result["contestants"][name.rsplit(", ", 1)[0] + ", alone"]["median"]
        rows.append(
            [
                name,
                f"{median['process_ms']:,.0f} ms",
                ratio(median["process_ms"], alone["process_ms"]),
                f"{median['peak_mib']:,.0f} MiB",
            ]
        )
    header = ["contestant", "whole process", "to alone", "peak memory of `olap query`"]
    return (
        f"**Cluster on one machine**, {result['rows']:,} rows of {result['days']} days on MinIO, {result['vcores']} vcores in all, "
        f"{of_runs(result)}\n\n" + table(header, rows)
    )


RENDER = {"realtime": realtime, "delay": delay, "ingest": ingest, "memory": memory, "compact": compact, "audit": audit, "query": query, "commits": commits, "hourly": hourly, "fresh": fresh, "cluster": cluster}


def machine(facts):
    """The machine in one line."""
    line = (
        f"{facts['cores']} cores, {facts['memory_gib']:.0f} GiB, {facts['system']}; Kafka {facts['kafka']} (1 GiB heap) and "
        f"MinIO {facts['minio']} on the same cores; Java {facts['java']}, Rust {facts['rustc']}, Python {facts['python']}, "
        f"deltalake {facts['deltalake']}, DuckDB {facts['duckdb']}, Polars {facts['polars']}, pyarrow {facts['pyarrow']}; "
        f"load at the start {facts['load_at_start']:.1f}"
    )
    return line if facts["profile"] == "release" else f"{line}. **Debug builds: these figures mean nothing**"


def render(result):
    """A result as Markdown."""
    return RENDER[result["benchmark"]](result)


def keep(result):
    """Writes a result to bench/results."""
    RESULTS.mkdir(exist_ok=True)
    stamp = result["started"].replace(":", "").replace("-", "")
    path = RESULTS / f"{result['benchmark']}-{stamp}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def newest():
    """The newest result of each benchmark that was made with release builds."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        if result["machine"]["profile"] == "release":
            earlier = found.get(result["benchmark"])
            if earlier is None or earlier["started"] <= result["started"]:
                found[result["benchmark"]] = result
    return [found[name] for name in RENDER if name in found]


def title(block):
    """The bold words that a benchmark's tables begin with."""
    return block.split("**")[1] if block.startswith("**") else ""


def earlier_sections(text, replaced):
    """The tables of an earlier README that were not measured again, below the line of their machine."""
    sections, tables, keeps = {}, [], False
    for paragraph in text.strip().split("\n\n"):
        if re.match(r"\d{4}-\d\d-\d\d: ", paragraph):
            if tables:
                sections.setdefault(paragraph, []).extend(tables)
            tables, keeps = [], False
        elif paragraph.startswith("**"):
            keeps = title(paragraph) not in replaced
            tables += [paragraph] if keeps else []
        elif tables and keeps:
            tables[-1] += "\n\n" + paragraph
    return sections


def write_readme():
    """Puts the newest results between the marks of the README; what was not measured again stays as it is there."""
    results = newest()
    if not results:
        raise BenchError("bench/results holds no result of release builds: bench/run all makes them")
    readme = TOP / "README.md"
    before, begin, rest = readme.read_text().partition(BEGIN) if readme.exists() else ("", "", "")
    earlier, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"README.md has no place for the results: put the lines {BEGIN} and {END} where they belong")
    rendered = [(f"{result['started'][:10]}: {machine(result['machine'])}.", render(result)) for result in results]
    sections = earlier_sections(earlier, {title(block) for _, block in rendered})
    for line, block in rendered:
        sections.setdefault(line, []).append(block)
    text = "\n\n".join("\n\n".join([*tables, line]) for line, tables in sections.items())
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
