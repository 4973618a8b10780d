"""One HTML page that needs nothing beside it: no scripts, nothing from elsewhere, pictures inline."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; --line: #ddd; --soft: #666; --kept: #0072b2; --dropped: #b84e00 }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #aaa; --kept: #56b4e9; --dropped: #f0894a } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto; background: white; border-radius: 4px }
figcaption, .note { color: var(--soft) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th.n, td.n { text-align: right; white-space: nowrap } code { overflow-wrap: anywhere; font-size: .8rem }
.kept { color: var(--kept) } .dropped { color: var(--dropped) }
"""


def html_page(title: str, body: str) -> str:
    """A whole page; ``title`` is escaped here, ``body`` is HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
{body}
</body></html>
"""


_MARKED = {"kept": ' class="kept"', "dropped": ' class="dropped"'}


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Escaped; columns whose heading begins with # are numbers."""
    number = [' class="n"' if text.startswith("#") else "" for text in head]
    top = "".join(f"<th{kind}>{escape(text.lstrip('#'))}</th>" for kind, text in zip(number, head, strict=True))
    body = []
    for row in rows:
        cells = zip(number, row, strict=True)
        body.append("".join(f"<td{_MARKED.get(text, kind)}>{escape(text)}</td>" for kind, text in cells))
    lines = "\n".join(f"<tr>{cells}</tr>" for cells in body)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>\n{lines}\n</tbody></table></div>\n'


def html_picture(path: Path, title: str) -> str:
    """A PNG file, inline."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{data}"></figure>\n'
