"""The pieces of a page: every text that goes through here is escaped, and wide tables scroll by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from edgecls.drawing.svg import STYLE, escape, to_svg

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgecls.drawing.figure import Figure

__all__ = ["Text", "card", "facts", "figures", "folded", "page", "section", "table"]

_OPEN_POINTS = 3

Text: TypeAlias = str | tuple[str, str]
"""What stands in a cell: a text, or one with a smaller one below it."""

_PAGE_STYLE = """\
* { box-sizing: border-box; }
:root { --page: #f4f6f8; --edge: #dde2e8; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --edge: #2d3540; } }
@media print { :root { --page: #ffffff; --edge: #c8cdd3; } }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 24px 48px; }
h1, h2, h3 { line-height: 1.25; overflow-wrap: anywhere; text-wrap: balance; margin: 0; }
h1 { font-size: 1.9rem; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 40px 0 12px; }
h3 { font-size: 1rem; }
p { margin: 4px 0; overflow-wrap: anywhere; }
.small { color: var(--muted); font-size: 0.875rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr)); gap: 12px; }
.cards > div, .card, figure, .table, details, .facts { background: var(--paper); border: 1px solid var(--edge);
  border-radius: 10px; }
.cards > div { padding: 12px 16px; }
.cards b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.card { padding: 16px 20px; margin: 16px 0; border-left-width: 6px; }
.card.good { border-left-color: var(--good); } .card.bad { border-left-color: var(--bad); }
.card.unsure { border-left-color: var(--unsure); }
.card.good, .card.bad, .card.unsure { color: var(--ink); }
.card h2 { margin: 0 0 4px; font-size: 1.5rem; } .card.good h2 { color: var(--good); }
.card.bad h2 { color: var(--bad); } .card.unsure h2 { color: var(--unsure); }
ul { margin: 6px 0 0; padding-left: 1.2em; } li { margin: 4px 0; overflow-wrap: anywhere; }
.small + .figures { margin-top: 16px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); gap: 16px; }
figure { margin: 0; padding: 14px 14px 10px; min-width: 0; }
figcaption { margin-bottom: 8px; line-height: 1.35; overflow-wrap: anywhere; }
figcaption b { display: block; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 14px; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--edge); }
tr:last-child td, tbody tr:last-child th { border-bottom: 0; }
thead th { color: var(--muted); font-weight: 500; font-size: 0.8125rem; vertical-align: bottom; }
th:first-child, td.text, th.text { text-align: left; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
tbody th { font-weight: 600; white-space: normal; min-width: 10.5em; max-width: 24em;
  overflow-wrap: break-word; }
td.text { white-space: normal; min-width: 16em; }
td small, th small { display: block; color: var(--muted); font-weight: 400; font-size: 0.8125rem; }
details { margin: 12px 0; } details > .figures, details > .table { margin: 0 14px 14px; }
summary { cursor: pointer; padding: 12px 16px; font-weight: 600; overflow-wrap: anywhere; }
details figure { border: 0; padding: 0; }
.card details { border: 0; margin: 6px 0 0; } .card summary { padding: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); gap: 16px; }
.facts { padding: 14px 18px; }
dl { display: grid; grid-template-columns: minmax(7em, auto) 1fr; gap: 4px 16px; margin: 8px 0 0;
  font-size: 0.9375rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--paper); border: 1px solid var(--edge); border-radius: 10px; padding: 14px 18px; margin: 8px 0;
  white-space: pre-wrap; overflow-wrap: anywhere;
  font: 0.9375rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
@media (max-width: 600px) { main { padding: 18px 12px 36px; } h1 { font-size: 1.5rem; } h2 { margin-top: 30px; }
  figure { padding: 12px 8px 8px; } figcaption { padding: 0 4px; } th, td { padding: 8px 10px; }
  .cards { grid-template-columns: 1fr 1fr; } .cards b { font-size: 1.35rem; }
  tbody th { min-width: 9.5em; max-width: 10.5em; font-size: 0.875rem; } }
@media print { figure, .card, tr { break-inside: avoid; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page: one file, no script, nothing fetched, as the policy in its head tells the browser."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}{_PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *content: str) -> str:
    """Return a heading with what belongs to it; nothing if that is nothing."""
    inside = "\n".join(filter(None, content))
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def card(kind: str, title: str, lines: Sequence[str], points: Sequence[str] = ()) -> str:
    """Return what the reader must see first.

    Args:
        kind: ``good``, ``bad`` or ``unsure``.
        title: in a word or two.
        lines: a paragraph each.
        points: a list below them, folded beyond its first ones: figures must not drown in it.
    """
    inside = f"<h2>{escape(title)}</h2>" + "".join(f"<p>{escape(line)}</p>" for line in lines)
    items = [f"<li>{escape(point)}</li>" for point in points]
    most = len(items) if len(items) <= _OPEN_POINTS + 1 else _OPEN_POINTS
    if items:
        inside += f"<ul>{''.join(items[:most])}</ul>"
    if items[most:]:
        inside += f"<details><summary>{len(items) - most} more</summary><ul>{''.join(items[most:])}</ul></details>"
    return f'<div class="card {kind}">{inside}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[Text]], *, words: Sequence[str] = ()) -> str:
    """Return a table whose first column names its rows, the others to the right as numbers are.

    Args:
        head: names of the columns.
        rows: as many texts each.
        words: names of columns that hold sentences.
    """
    classes = [' class="text"' if name in words else "" for name in head]
    names = "".join(f'<th scope="col"{of}>{escape(name)}</th>' for name, of in zip(head, classes, strict=True))
    lines = [
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td{of}>{_text(text)}</td>" for text, of in zip(row[1:], classes[1:], strict=True))
        + "</tr>"
        for row in rows
    ]
    # A region that scrolls must be reachable with the keyboard.
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(head[0])}"><table>\n<thead><tr>{names}</tr>'
        f"</thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody>\n</table></div>"
    )


def facts(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Return names with what they are, as a box."""
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<div class="facts"><h3>{escape(title)}</h3><dl>{listed}</dl></div>'


def figures(drawn: Sequence[Figure]) -> str:
    """Return figures side by side, or one below the other where the screen is narrow."""
    listed = "\n".join(
        f'<figure><figcaption><b>{escape(figure.title)}</b><span class="small">{escape(figure.caption)}</span>'
        f"</figcaption>{to_svg(figure)}</figure>"
        for figure in drawn
    )
    return f'<div class="figures">\n{listed}\n</div>' if listed else ""


def folded(title: str, *content: str, is_open: bool) -> str:
    """Return what a reader can unfold."""
    inside = "\n".join(filter(None, content))
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>\n{inside}\n</details>"


def _text(text: Text) -> str:
    if isinstance(text, str):
        return escape(text)
    return f"{escape(text[0])}<small>{escape(text[1])}</small>" if text[1] else escape(text[0])
