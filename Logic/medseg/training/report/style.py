"""How a report looks; in the page itself, which fetches nothing."""

STYLE = """
:root { --ink: #1f2933; --faint: #616e7c; --line: #e4e7eb; --paper: #ffffff; --back: #f5f7fa; --accent: #1f5fbf; }
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 0 0 12px; }
.sub { color: var(--faint); margin: 0 0 20px; }
section, .card { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
section { padding: 18px 20px; margin: 16px 0; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }
.card { flex: 1 1 130px; padding: 12px 16px; }
.card b { display: block; font-size: 22px; font-weight: 600; }
.card span { color: var(--faint); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--faint); font-size: 13px; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; }
tr.mean td { font-weight: 600; border-bottom: 0; }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px; }
.scroll { overflow-x: auto; margin-bottom: 12px; }
img { width: 100%; height: auto; display: block; border-radius: 4px; }
figure { margin: 0 0 16px; }
figcaption { font-size: 13px; color: var(--faint); margin-bottom: 4px; }
pre { overflow-x: auto; background: var(--back); padding: 12px; border-radius: 6px; font-size: 13px; }
.state {
  display: inline-block; font-size: 13px; font-weight: 600; border-radius: 99px; padding: 2px 12px; margin-left: 10px;
  vertical-align: 4px; background: #e3ecfa; color: var(--accent);
}
.state.failed { background: #fde3e0; color: #b42318; }
.state.finished { background: #ddf3e4; color: #1b6e3c; }
summary { cursor: pointer; color: var(--accent); }
.note { color: var(--faint); font-size: 13px; margin: 10px 0 0; }
"""
