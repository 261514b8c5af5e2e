"""The style sheet of all pages: light, for desktops, phones and paper."""

STYLES = """
:root { --ink: #1b1f24; --soft: #57606a; --edge: #d8dee4; --field: #f6f8fa; --blue: #0072b2;
  --good: #00805e; --warn: #a86500; --bad: #b3261e; color-scheme: light; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
  sans-serif; }
main, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 36px 0 4px; padding-bottom: 6px;
  border-bottom: 1px solid var(--edge); }
header p, .lead, footer { color: var(--soft); overflow-wrap: anywhere; }
header p, .lead { margin: 4px 0 0; }
footer { font-size: .8rem; margin-top: 40px; padding-bottom: 32px; }
.verdict { margin: 20px 0 0; padding: 14px 18px; border: 1px solid var(--edge); border-radius: 8px;
  border-left: 6px solid var(--soft); background: var(--field); overflow-wrap: anywhere; }
.verdict .said { margin: 0; font-size: 1.15rem; font-weight: 600; display: flex; gap: 10px; }
.verdict ul { margin: 8px 0 0; padding-left: 20px; }
.verdict.good { border-left-color: var(--good); } .verdict.good .sign { color: var(--good); }
.verdict.warn { border-left-color: var(--warn); } .verdict.warn .sign { color: var(--warn); }
.verdict.bad { border-left-color: var(--bad); } .verdict.bad .sign { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 16px 0 0; }
.tiles div { border: 1px solid var(--edge); border-radius: 8px; padding: 10px 14px; min-width: 0; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
.tiles .number { font-size: 1.5rem; line-height: 1.3; font-weight: 650; color: var(--ink);
  font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr));
  gap: 16px; margin-top: 14px; align-items: stretch; }
figure { margin: 0; padding: 12px 14px; border: 1px solid var(--edge); border-radius: 8px;
  min-width: 0; }
figcaption strong { display: block; font-size: .95rem; }
figcaption span { color: var(--soft); font-size: .82rem; display: block; line-height: 1.35; }
svg.chart { display: block; width: 100%; height: auto; margin-top: 8px; }
svg text { font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg text.axis, svg text.mark { fill: var(--soft); }
svg text.mark { paint-order: stroke; stroke: #fff; stroke-width: 3px; }
svg text.inverse { fill: #fff; }
svg .grid { stroke: #e6eaee; } svg .base { stroke: #8c959f; }
svg line.mark { stroke: #57606a; stroke-dasharray: 4 3; }
svg .unmeasured { fill: #fff; stroke: var(--edge); stroke-dasharray: 3 3; }
svg .best { stroke: #1b1f24; stroke-width: 2; }
svg.spark { vertical-align: middle; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 8px 0 0;
  padding: 0; font-size: .82rem; }
.legend svg { height: 14px; margin-right: 6px; vertical-align: -2px; }
.table { overflow-x: auto; margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
td:last-child:not(.n) { overflow-wrap: anywhere; min-width: 17em; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.card { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr));
  gap: 0 32px; margin: 12px 0 0; font-size: .88rem; }
.card div { display: flex; gap: 12px; justify-content: space-between; padding: 4px 0;
  border-bottom: 1px solid var(--edge); min-width: 0; }
.card dt { color: var(--soft); flex: none; }
.card dd { margin: 0; text-align: right; overflow-wrap: anywhere; min-width: 0; }
pre { background: var(--field); border-radius: 6px; padding: 10px 12px; margin: 10px 0 0;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--blue); }
@media (max-width: 720px) {
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
}
@media (max-width: 480px) {
  main, footer { padding: 0 12px; }
  figure { padding: 10px 8px; }
  .tiles .number { font-size: 1.25rem; }
  .verdict { padding: 12px; }
}
@media print {
  @page { size: A4; margin: 14mm; }
  body { font-size: 10.5pt; } main, footer { max-width: none; padding: 0; }
  header { padding-top: 0; }
  figure, .verdict, .tiles div, tr { break-inside: avoid; }
  h2, .lead { break-after: avoid; } h2 { margin-top: 22px; }
  details::details-content { content-visibility: visible; block-size: auto; opacity: 1; }
  .charts { grid-template-columns: 1fr 1fr; gap: 10px; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  .table { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
