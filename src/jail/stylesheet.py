"""
How a report looks: on a screen by day and by night, on a small one, and on paper.

Pure data. Its variables are the colours of `chart` as well; they were chosen to be told apart by people who see
no red or no green, and each has a contrast of 4.5 to its ground (WCAG 2.2, 1.4.3), lines of 3 (1.4.11).
"""

from __future__ import annotations

__all__ = ["STYLESHEET"]

STYLESHEET = """\
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f6f7f9; --ink: #1b1f24; --muted: #5b6570; --line: #d9dde2;
  --good: #1a7f4b; --bad: #b42318; --memory: #1f6feb; --cpu: #0b7a75; --processes: #7a3ec8; --limit: #c2410c;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --raised: #1c2128; --ink: #e6e9ed; --muted: #9aa5b1; --line: #333b45;
    --good: #4cc38a; --bad: #ff8b7e; --memory: #6cb0ff; --cpu: #3fc7bd; --processes: #bd93f9; --limit: #ff9d5c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 2.25rem 0 .6rem; }
p { margin: .3rem 0; }
.muted, figcaption { color: var(--muted); font-size: .9em; font-weight: normal; }
.outcome { font-size: 1.05rem; font-weight: 600; }
.good { color: var(--good); }
.bad { color: var(--bad); }
pre, code { font: .87em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; direction: ltr; unicode-bidi: isolate; }
pre {
  margin: .75rem 0; padding: .65rem .85rem; background: var(--raised); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; margin: 1.25rem 0 0; }
.tiles dt { color: var(--muted); font-size: .85em; }
.tiles dd { margin: 0; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
figure { margin: 0; }
.charts, .wide { overflow-x: auto; }
.charts svg { display: block; width: 100%; min-width: 38rem; height: auto; stroke-linejoin: round; }
.charts text { font-family: system-ui, sans-serif !important; }
table { width: 100%; min-width: 38rem; border-collapse: collapse; font-size: .9em; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; }
th { white-space: nowrap; }
td { overflow-wrap: break-word; unicode-bidi: isolate; }
td:first-child { white-space: nowrap; width: 1%; }
td:last-child { color: var(--muted); overflow-wrap: anywhere; }
.number { font-variant-numeric: tabular-nums; width: 20%; }
ul { margin: 0; padding-left: 1.2rem; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; font-weight: 600; }
@media print {
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  figure, tr, .tiles { break-inside: avoid; }
  h2 { break-after: avoid; }
  .charts, .wide { overflow: visible; }
  table { min-width: 0; }
  .charts svg { min-width: 0; width: 80%; }
}
"""
