// Draws one dashboard with Grafana's own panel components, from what a live Prometheus answers.
// Kinds of panel that are not published as packages (state-timeline, heatmap, logs, table) are drawn here, plainly.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, createTheme, dateTime, displayNameOverrideProcessor, FieldConfigOptionsRegistry, FieldType,
  getDisplayProcessor, identityOverrideProcessor, numberOverrideProcessor, ThemeContext, thresholdsOverrideProcessor,
  toDataFrame, unitOverrideProcessor, valueMappingsOverrideProcessor,
} from '@grafana/data';
import { BigValue, BigValueJustifyMode, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';

type Any = any; // the dashboard's JSON, and parts of Grafana that have no types

// What to draw: seconds of time before `to`, the step between two points, what rates look back at, variables, log lines.
const cfg: { range: number; to: number; step: number; rate: string; vars: Record<string, string>; lines: Any[] } = (window as Any).RENDER;
const WIDTH = 1440, CELL = 30, GAP = 8, HEAD = 44;
const theme = createTheme({ colors: { mode: 'dark' } });
const to = cfg.to, from = to - cfg.range;
const timeRange: Any = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-1h', to: 'now' } };
const color = (name: string) => theme.visualization.getColorByName(name);
const dim = theme.colors.text.secondary;

const option = (id: string, process: Any, extra: Any = {}) => ({
  id, path: id, name: id, description: id, editor: () => null, override: () => null, process,
  shouldApply: () => true, settings: {}, category: [], isCustom: false, ...extra,
});
const registry = new FieldConfigOptionsRegistry(() => [
  option('unit', unitOverrideProcessor), option('min', numberOverrideProcessor), option('max', numberOverrideProcessor),
  option('decimals', numberOverrideProcessor), option('displayName', displayNameOverrideProcessor),
  option('noValue', identityOverrideProcessor), option('color', identityOverrideProcessor, { defaultValue: { mode: 'palette-classic' } }),
  option('thresholds', thresholdsOverrideProcessor), option('mappings', valueMappingsOverrideProcessor),
] as Any);

function filledIn(query: string) {
  let text = query.replaceAll('$__rate_interval', cfg.rate).replaceAll('$__interval', cfg.step + 's').replaceAll('$__range', cfg.range + 's');
  for (const [name, value] of Object.entries(cfg.vars)) text = text.replaceAll('${' + name + '}', value).replaceAll('$' + name, value);
  return text;
}

async function ask(query: string, instant = false, step = cfg.step) {
  const what = 'query=' + encodeURIComponent(filledIn(query));
  const url = instant ? `/api/v1/query?time=${to}&${what}` : `/api/v1/query_range?start=${from}&end=${to}&step=${step}&${what}`;
  const answer = await (await fetch(url)).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data.result as Any[];
}

const legend = (format: string, labels: Any) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');

async function frames(panel: Any) {
  const found: Any[] = [];
  for (const target of panel.targets ?? []) {
    if (panel.datasource?.type !== 'prometheus') continue;
    for (const series of await ask(target.expr, target.instant)) {
      const name = legend(target.legendFormat || '', series.metric);
      const points = series.values ?? [series.value];
      found.push(toDataFrame({ refId: target.refId, name, fields: [
        { name: 'Time', type: FieldType.time, values: points.map((p: Any) => p[0] * 1000), config: { interval: cfg.step * 1000 } },
        { name: 'Value', type: FieldType.number, labels: series.metric, values: points.map((p: Any) => parseFloat(p[1])), config: { displayNameFromDS: name } },
      ] }));
    }
  }
  found.forEach((frame, index) => { frame.fields[1].state = { seriesIndex: index }; });
  const known = (panel.fieldConfig?.overrides ?? []).map((o: Any) => ({ ...o, properties: o.properties.filter((p: Any) => !p.id.startsWith('custom.') && p.id !== 'links') }));
  const made: Any[] = applyFieldOverrides({
    data: found, fieldConfig: { defaults: { ...panel.fieldConfig?.defaults }, overrides: known } as Any,
    replaceVariables: (s: string) => s, theme, timeZone: 'utc', fieldConfigRegistry: registry as Any,
  });
  made.forEach((frame, index) => {
    const field = frame.fields[1];
    const own: Any = {};
    for (const override of panel.fieldConfig?.overrides ?? [])
      if (override.matcher.options === field.config.displayNameFromDS)
        for (const property of override.properties)
          if (property.id.startsWith('custom.')) own[property.id.slice(7)] = property.value;
    field.config.custom = {
      drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, showPoints: 'never', spanNulls: false, axisPlacement: 'auto',
      scaleDistribution: { type: 'linear' }, hideFrom: { legend: false, tooltip: false, viz: false }, ...panel.fieldConfig?.defaults?.custom, ...own,
    };
    field.state = { ...field.state, seriesIndex: index };
  });
  return made;
}

function joined(all: Any[]) { // on time
  const times = [...new Set<number>(all.flatMap((frame) => frame.fields[0].values))].sort((a, b) => a - b);
  const place = new Map(times.map((time, index) => [time, index]));
  const fields = all.map((frame) => {
    const values = new Array(times.length).fill(null);
    frame.fields[0].values.forEach((time: number, index: number) => {
      const value = frame.fields[1].values[index];
      values[place.get(time)!] = Number.isFinite(value) ? value : null;
    });
    return { ...frame.fields[1], values };
  });
  return [{ ...all[0], fields: [{ ...all[0].fields[0], values: times }, ...fields], length: times.length }];
}

const Empty = ({ text }: Any) => <div style={{ color: dim, display: 'flex', height: '100%', alignItems: 'center', justifyContent: 'center', fontSize: 13 }}>{text}</div>;

function Stat({ panel, all, w, h }: Any) {
  const field = all[0]?.fields[1];
  if (!field) return <Empty text={panel.fieldConfig?.defaults?.noValue ?? 'No data'} />;
  const value = getDisplayProcessor({ field, theme })(field.values.at(-1));
  const spark = panel.options.graphMode === 'area' ? { y: { ...field, config: { ...field.config, custom: {} } }, x: all[0].fields[0] } : undefined;
  return <BigValue value={{ ...value, title: '' }} sparkline={spark as Any} width={w} height={h} theme={theme} colorMode={panel.options.colorMode}
    graphMode={panel.options.graphMode} justifyMode={BigValueJustifyMode.Auto} textMode={'auto' as Any} />;
}

function Lines({ panel, all, w, h, marks }: Any) {
  if (!all.length) return <Empty text="No data" />;
  const drawn = (builder: Any) => {
    if (!builder.marked) {
      builder.marked = true;
      builder.addHook('draw', (u: Any) => {
        for (const mark of marks) {
          const x = u.valToPos(mark.time * 1000, 'x', true);
          if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
          u.ctx.save(); u.ctx.strokeStyle = color(mark.color); u.ctx.globalAlpha = 0.75; u.ctx.lineWidth = 1; u.ctx.setLineDash([4, 3]);
          u.ctx.beginPath(); u.ctx.moveTo(x, u.bbox.top); u.ctx.lineTo(x, u.bbox.top + u.bbox.height); u.ctx.stroke();
          u.ctx.setLineDash([]); u.ctx.globalAlpha = 1; u.ctx.fillStyle = color(mark.color);
          u.ctx.beginPath(); u.ctx.moveTo(x - 4, u.bbox.top + u.bbox.height + 6); u.ctx.lineTo(x + 4, u.bbox.top + u.bbox.height + 6);
          u.ctx.lineTo(x, u.bbox.top + u.bbox.height); u.ctx.fill(); u.ctx.restore();
        }
      });
    }
    return null as Any;
  };
  return <TimeSeries frames={joined(all) as Any} timeRange={timeRange} timeZone="utc" width={w} height={h} structureRev={1} legend={panel.options.legend}
    options={panel.options} replaceVariables={(s: string) => s} theme={theme} tweakScale={undefined as Any} tweakAxis={undefined as Any}>{drawn}</TimeSeries>;
}

const clock = (seconds: number) => new Date(seconds * 1000).toISOString().slice(11, 19);
const Ticks = ({ left, w, y }: Any) => <>{[0, 1, 2, 3, 4, 5].map((n) => {
  const x = left + ((w - left - 30) * n) / 5;
  return <text key={n} x={x} y={y} fontSize={11} fill={dim} textAnchor="middle">{clock(from + (cfg.range * n) / 5)}</text>;
})}</>;

function Timeline({ panel, all, w, h, marks }: Any) {
  const left = 150, foot = 20, high = (h - foot) / all.length;
  const at = (time: number) => left + ((w - left - 30) * (time / 1000 - from)) / cfg.range;
  const values = panel.fieldConfig.defaults.mappings[0].options;
  return <svg width={w} height={h}>
    {all.map((frame: Any, row: number) => <g key={row}>
      <text x={left - 10} y={row * high + high / 2 + 4} fontSize={13} fill={theme.colors.text.primary} textAnchor="end">{frame.fields[1].config.displayNameFromDS}</text>
      {frame.fields[1].values.map((value: number, index: number) => {
        if (!Number.isFinite(value)) return null;
        const time = frame.fields[0].values[index], x = at(time);
        return <rect key={index} x={x} y={row * high + 3} width={Math.max(1, at(time + cfg.step * 1000) - x + 0.5)} height={high - 6}
          fill={color(values[String(Math.round(value))]?.color ?? 'gray')} opacity={value ? 1 : 0.45} />;
      })}
    </g>)}
    {marks.map((mark: Any, n: number) => <line key={n} x1={at(mark.time * 1000)} x2={at(mark.time * 1000)} y1={0} y2={h - foot} stroke={color(mark.color)} strokeDasharray="4 3" opacity={0.75} />)}
    <Ticks left={left} w={w} y={h - 5} />
  </svg>;
}

function Heat({ all, w, h }: Any) {
  const buckets = all.map((frame: Any) => ({ le: parseFloat(frame.fields[1].labels.le.replace('+Inf', 'Infinity')), values: frame.fields[1].values, times: frame.fields[0].values }))
    .sort((a: Any, b: Any) => a.le - b.le);
  const left = 70, foot = 20, high = (h - foot) / buckets.length;
  const at = (time: number) => left + ((w - left - 30) * (time / 1000 - from)) / cfg.range;
  const cells = buckets.flatMap((bucket: Any, row: number) => bucket.times.map((time: number, index: number) => ({ row, time, count: Math.max(0, bucket.values[index] - (row ? buckets[row - 1].values[index] ?? 0 : 0)) })));
  const most = Math.max(...cells.map((cell: Any) => cell.count), 1);
  const name = (le: number) => (le === Infinity ? 'more' : le < 0.001 ? `${le * 1e6} µs` : le < 1 ? `${le * 1e3} ms` : `${le} s`);
  return <svg width={w} height={h}>
    {buckets.map((bucket: Any, row: number) => <text key={row} x={left - 8} y={h - foot - row * high - high / 2 + 4} fontSize={11} fill={dim} textAnchor="end">{name(bucket.le)}</text>)}
    {cells.filter((cell: Any) => cell.count > 0.5).map((cell: Any, n: number) => <rect key={n} x={at(cell.time)} y={h - foot - (cell.row + 1) * high + 1} width={Math.max(1, at(cell.time + cfg.step * 1000) - at(cell.time))} height={high - 2}
      fill={color('dark-orange')} opacity={0.15 + 0.85 * Math.sqrt(cell.count / most)} />)}
    <Ticks left={left} w={w} y={h - 5} />
  </svg>;
}

const cell: React.CSSProperties = { textAlign: 'left', padding: '5px 8px', borderBottom: `1px solid ${theme.colors.border.weak}`, whiteSpace: 'nowrap' };

function Labels({ panel, all }: Any) {
  if (!all.length) return <Empty text={panel.fieldConfig?.defaults?.noValue ?? 'No data'} />;
  const organized = panel.transformations?.[0]?.options ?? {};
  const order = organized.indexByName ?? {};
  const names = [...new Set<string>(all.flatMap((frame: Any) => Object.keys(frame.fields[1].labels ?? {})))]
    .filter((name) => !organized.excludeByName?.[name] && (name in order || !Object.keys(order).length)).sort((a, b) => (order[a] ?? 99) - (order[b] ?? 99));
  const tint = (name: string, value: string) => (name === 'severity' ? color(value === 'page' ? 'red' : 'orange') : name === 'alertname' ? theme.colors.text.link : undefined);
  return <table style={{ fontSize: 13, width: '100%', borderCollapse: 'collapse' }}>
    <thead><tr>{names.map((name) => <th key={name} style={{ ...cell, color: dim, fontWeight: 500 }}>{name}</th>)}</tr></thead>
    <tbody>{all.map((frame: Any, row: number) => <tr key={row}>{names.map((name) => { const value = frame.fields[1].labels[name] ?? ''; return <td key={name} style={{ ...cell, color: tint(name, value) }}>{value}</td>; })}</tr>)}</tbody>
  </table>;
}

const Log = ({ h }: Any) => <div style={{ fontFamily: 'monospace', fontSize: 11.5, height: h, overflow: 'hidden', padding: '0 8px' }}>
  {cfg.lines.map((line, n) => <div key={n} style={{ whiteSpace: 'nowrap', overflow: 'hidden', textOverflow: 'ellipsis', padding: '3px 0 3px 8px', borderLeft: `3px solid ${color(line.outcome === 'error' ? 'red' : line.level === 'warning' ? 'orange' : 'blue')}` }}>
    <span style={{ color: dim }}>{line.timestamp}</span> {JSON.stringify(line)}</div>)}
</div>;

function Body(props: Any) {
  switch (props.panel.type) {
    case 'stat': return <Stat {...props} />;
    case 'timeseries': return <Lines {...props} />;
    case 'state-timeline': return <Timeline {...props} />;
    case 'heatmap': return props.all.length ? <Heat {...props} /> : <Empty text="No data" />;
    case 'table': return <Labels {...props} />;
    case 'logs': return <Log {...props} />;
    default: return <Empty text={props.panel.type} />;
  }
}

class Guard extends React.Component<Any, Any> {
  state = { error: null as Any };
  static getDerivedStateFromError(error: Any) { (window as Any).FAILED = String(error?.stack ?? error).slice(0, 300); return { error }; }
  render() { return this.state.error ? <pre style={{ color: 'red', fontSize: 10 }}>{String(this.state.error)}</pre> : this.props.children; }
}

async function annotations(dashboard: Any) {
  const marks: Any[] = [];
  for (const annotation of dashboard.annotations.list) {
    if (!annotation.expr) continue;
    for (const series of await ask(annotation.expr)) { // Grafana marks where a series begins
      let last = 0;
      for (const [time] of series.values) {
        if (time - last > 1.5 * cfg.step) marks.push({ time, color: annotation.iconColor, text: legend(annotation.titleFormat, series.metric), name: annotation.name });
        last = time;
      }
    }
  }
  return marks.filter((mark) => mark.time > from + 2 * cfg.step); // what began before is no mark
}

(async () => {
  const dashboard = await (await fetch('/dash.json')).json();
  const status: Any = { panels: 0, empty: [], errors: [] };
  const marks = await annotations(dashboard);
  const drawn: Any[] = [];
  let bottom = 0;
  for (const panel of dashboard.panels) {
    const grid = panel.gridPos, x = (grid.x * WIDTH) / 24 + GAP / 2, y = HEAD + grid.y * (CELL + GAP), w = (grid.w * WIDTH) / 24 - GAP, h = grid.h * (CELL + GAP) - GAP;
    bottom = Math.max(bottom, y + h);
    if (panel.type === 'row') {
      drawn.push(<div key={panel.id} style={{ position: 'absolute', left: x, top: y, fontWeight: 500, fontSize: 16, padding: 4 }}>{panel.collapsed ? '▸' : '▾'} {panel.title}</div>);
      continue;
    }
    let all: Any[] = [];
    status.panels++;
    try { all = await frames(panel); if (!all.length && panel.type !== 'logs') status.empty.push(panel.title); } catch (error: Any) { status.errors.push(`${panel.title}: ${error.message}`); }
    drawn.push(<div key={panel.id} style={{ position: 'absolute', left: x, top: y, width: w, height: h }}><Guard>
      <PanelChrome title={panel.title} description={panel.description} width={w} height={h}>{(iw: number, ih: number) => <Guard><Body panel={panel} all={all} w={iw} h={ih} marks={marks} /></Guard>}</PanelChrome></Guard></div>);
  }
  const kinds = dashboard.annotations.list.filter((a: Any) => a.expr);
  document.body.style.cssText = `margin:0;background:${theme.colors.background.canvas};color:${theme.colors.text.primary};font-family:${theme.typography.fontFamily}`;
  const root = document.getElementById('root')!;
  root.style.cssText = `position:relative;width:${WIDTH}px;height:${bottom + 10}px`;
  createRoot(root).render(<ThemeContext.Provider value={theme}><GlobalStyles isExtensionSidebarOpen={false as Any} hackNoBackdropBlur={false as Any} />
    <div style={{ position: 'absolute', left: 12, top: 10, fontSize: 18, fontWeight: 500 }}>{dashboard.title}</div>
    <div style={{ position: 'absolute', right: 12, top: 14, fontSize: 12, color: dim }}>
      {kinds.map((a: Any) => <span key={a.name} style={{ marginRight: 16 }}><span style={{ color: color(a.iconColor) }}>┊</span> {a.name}</span>)}{clock(from)} – {clock(to)} UTC</div>
    {drawn}</ThemeContext.Provider>);
  setTimeout(() => { if ((window as Any).FAILED) status.errors.push((window as Any).FAILED); document.title = 'READY ' + JSON.stringify({ ...status, height: bottom }); }, 4000);
})();
