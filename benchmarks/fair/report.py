"""One self-contained HTML page of a run of `quality.py`: tables, pictures, what was left out."""

import base64
import html
import io
import pathlib
import re

from fair import plots, results, tables
from keras_mtl.affinity import Affinity
from keras_mtl.plot import affinity
from keras_mtl.tuners import files

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #243b53; margin: 2rem auto; max-width: 1100px;
  padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { border-bottom: 1px solid #d9e2ec; margin-top: 2.5rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 9px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: white; }
th { border-bottom: 2px solid #bcccdc; } tr:nth-child(even) td { background: #f5f7fa; }
figure { margin: 1rem 0; } figcaption { font-size: 13px; color: #52606d; }
img { max-width: 100%; height: auto; } .pair { display: flex; flex-wrap: wrap; gap: 1.5rem; }
code { background: #f0f4f8; padding: 1px 4px; } details { margin: 0.6rem 0; }
"""
FAIR = """
Every method trains from the same first weights (the same seed), on the same examples, for as many
steps; a method that decides has as many candidates as every other; the best of them on validation
data is what the tables show, on test data. Δ of a task is the mean relative gain of its metrics
over the single-task network, in percent, Δ_T the mean over the tasks; ± is the deviation over the
seeds. Times and work are in units of training all single-task networks, answers in units of
separate networks for all tasks; <i>work</i> counts FLOPs times steps. Methods with a dagger begin
with the trained single-task networks and have had twice the training: compare them with
<i>single-task, as long again</i>.
"""


def write(found, folder):
    """Writes `report.html` into the folder of a run; returns its path."""
    folder = pathlib.Path(folder)
    seed = next(iter(found["seeds"]))
    kept = results.kept(folder, seed)
    text = "\n".join(page(found, kept, folder / f"seed{seed}", seed))
    path = folder / "report.html"
    files.write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def page(found, kept, folder, seed):
    """The page, part by part."""
    suite = found["suite"]
    title = html.escape(suite["title"][0].upper() + suite["title"][1:])
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    yield (
        f"<p><code>{html.escape(found['command'])}</code>, {found['date']}, {found['machine']}, "
        f"{versions}. {len(found['seeds'])} seed(s); {suite['epochs']} epochs of every training, "
        f"{suite['search_epochs']} of every search, {suite['candidates']} candidates, "
        f"{suite['backbone_parameters']:,} parameters of one backbone. Everything took "
        f"{sum(one['wall_seconds'] for one in found['seeds'].values()) / 60:.0f} minutes.</p>"
        f"<p>{FAIR}</p>"
    )
    yield "<h2>Scores</h2>"
    yield from table(tables.main_table(found))
    yield image(plots.scores(found), "Δ_T on test: mean and deviation; a stroke for each seed.")
    yield image(plots.front(found), "What quality costs: parameters against Δ_T.")
    yield "<h2>Every metric, on test</h2>"
    yield from table(tables.metric_table(found))
    yield "<h2>What it costs</h2>"
    yield from table(tables.cost_table(found))
    yield image(plots.latency(found), "FLOPs and the time of an answer.")
    yield from left_out(found)
    yield f"<h2>Learning curves</h2><p>Seed {seed}; of what was chosen.</p>"
    yield image(plots.curves(found, kept), "Training loss of every task.")
    yield from decisions(found, kept, folder, seed)
    yield "</body></html>"


def decisions(found, kept, folder, seed):
    """What was learned and chosen, method by method."""
    yield f"<h2>Policies and architectures</h2><p>Seed {seed}.</p>"
    shown = {}
    for name, title in found["titles"].items():
        row = kept["methods"].get(name, {})
        twin = shown.setdefault(row.get("architecture", name), title)
        drawn = [
            (plots.policy(row), "The learned policy."),
            (plots.correlation(row), "How alike the tasks' policies are."),
            (plots.edges(row), "How likely the edges between columns are."),
            (plots.channels(row), "The share of channels that tasks have in common."),
        ]
        if twin == title:
            drawn.append((plots.architecture(row), "The chosen network."))
        if name == "branched" and (folder / "affinity.json").exists():
            found_affinity = Affinity.load(folder / "affinity.json")
            drawn.insert(0, (affinity(found_affinity), "How alike the tasks are, by depth."))
        drawn = [image(figure, text) for figure, text in drawn if figure is not None]
        if twin != title:
            drawn.append(f"<p>The chosen network is that of <i>{html.escape(twin)}</i>.</p>")
        if drawn:
            yield f'<h3>{html.escape(title)}</h3><div class="pair">'
            yield from drawn
            yield "</div>"


def left_out(found):
    """Methods that do not apply, and why."""
    if found["left_out"]:
        yield "<h2>Left out</h2><ul>"
        for why, names in tables.reasons(found).items():
            titles = ", ".join(html.escape(results.title(name)) for name in names)
            yield f"<li><b>{titles}</b>: {html.escape(why)}</li>"
        yield "</ul>"


def table(lines):
    """A table of Markdown as one of HTML."""
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines]
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    yield "</tr></thead><tbody>"
    for row in rows[2:]:
        yield "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"


def image(figure, caption):
    """A figure inside the page itself."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    data = base64.b64encode(file.getvalue()).decode()
    alt = html.escape(caption)
    return (
        f'<figure><img alt="{alt}" src="data:image/png;base64,{data}">'
        f"<figcaption>{alt}</figcaption></figure>"
    )
