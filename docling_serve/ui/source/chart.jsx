// Memory over the last ten minutes, stacked by process.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { bytes } from "./format.js";

const MIB = 1048576;
const WORKER_COLOURS = 6;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// From samples to layers, lowest first: server, template, standby workers, every other worker.
export function layers(samples) {
  const numbers = [...new Set(samples.flatMap((s) => s.workers.filter((w) => w.state !== "standby").map((w) => w.number)))].sort((a, b) => a - b);
  const standby = (s) => s.workers.filter((w) => w.state === "standby").reduce((sum, w) => sum + w.rss_bytes, 0);
  const of = (s, number) => s.workers.find((w) => w.number === number && w.state !== "standby")?.rss_bytes || 0;
  const all = [
    { title: "Server", colour: "--server", values: samples.map((s) => s.server) },
    { title: "Template", colour: "--template", values: samples.map((s) => s.template) },
    { title: "Standby", colour: "--standby", values: samples.map(standby) },
    ...numbers.map((number) => ({
      title: `Worker ${number}`, colour: `--worker-${number % WORKER_COLOURS}`, values: samples.map((s) => of(s, number)),
    })),
  ];
  return all.filter((layer, index) => index === 0 || layer.values.some(Boolean));
}

export const total = (s) => s.server + s.template + s.workers.reduce((sum, w) => sum + w.rss_bytes, 0);
export const atRest = (samples) => {
  const first = samples.findIndex((s) => s.workers.length);
  const idle = samples.slice(Math.max(0, first)).filter((s) => !s.workers.some((w) => w.task_id || w.state === "starting"));
  return idle.length ? Math.min(...idle.map(total)) : null;
};

export function Staircase({ samples }) {
  const place = useRef(null);
  const plot = useRef(null);
  const shape = useRef("");
  const newest = useRef(samples);
  newest.current = samples;
  const stack = layers(samples);
  useEffect(() => {
    if (samples.length < 2) return;
    const titles = stack.map((layer) => layer.title).join();
    const data = stacked(samples, stack);
    if (plot.current && shape.current === titles) {
      plot.current.setData(data);
      return;
    }
    plot.current?.destroy();
    shape.current = titles;
    plot.current = new uPlot(options(stack, place.current.clientWidth, newest), data, place.current);
  });
  useEffect(() => {
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: place.current.clientWidth, height: 260 }));
    resized.observe(place.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => { shape.current = ""; };
    dark.addEventListener("change", redraw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", redraw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  const rest = atRest(samples);
  const now = samples.at(-1);
  const peak = samples.length ? Math.max(...samples.map(total)) : 0;
  const summary = now ? `Memory of the last ten minutes: ${bytes(total(now))} now, ${bytes(peak)} at most${rest ? `, ${bytes(rest)} at rest` : ""}.` : "No figures yet.";
  return (
    <figure class="staircase">
      <div ref={place} role="img" aria-label={summary} />
      <figcaption>{summary} Shaded: a task runs. Dashed: at rest.
        <span class="legend">{stack.map((layer) => <span class={`key ${layer.colour.slice(2)}`}>{layer.title}</span>)}</span>
      </figcaption>
    </figure>
  );
}

function stacked(samples, stack) {
  const sums = samples.map(() => 0);
  const bottomUp = stack.map((layer) => layer.values.map((value, index) => (sums[index] += value / MIB)));
  return [samples.map((s) => s.at), ...bottomUp.reverse()]; // the largest is drawn first
}

function options(stack, width, newest) {
  const axis = { stroke: style("--quiet"), grid: { stroke: style("--line") }, ticks: { stroke: style("--line") } };
  return {
    width: width || 600, height: 260, legend: { show: false }, cursor: { show: false },
    scales: { y: { range: (_, __, most) => [0, most * 1.1] } },
    axes: [axis, { ...axis, size: 70, values: (_, ticks) => ticks.map((tick) => `${tick} MiB`) }],
    series: [{}, ...[...stack].reverse().map((layer) => ({
      label: layer.title, stroke: style(layer.colour), fill: style(layer.colour), width: 1, points: { show: false },
      paths: uPlot.paths.stepped({ align: 1 }),
    }))],
    hooks: { drawClear: [(u) => shade(u, newest.current)], draw: [(u) => restLine(u, newest.current)] },
  };
}

function shade(u, samples) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.fillStyle = style("--shade");
  samples.forEach((sample, index) => {
    if (!sample.workers.some((worker) => worker.task_id)) return;
    const left = u.valToPos(sample.at, "x", true);
    const right = u.valToPos(samples[index + 1]?.at ?? sample.at + 1, "x", true);
    ctx.fillRect(left, bbox.top, Math.max(1, right - left), bbox.height);
  });
  ctx.restore();
}

function restLine(u, samples) {
  const rest = atRest(samples);
  if (!rest) return;
  const { ctx, bbox } = u;
  const y = u.valToPos(rest / MIB, "y", true);
  ctx.save();
  ctx.strokeStyle = style("--ink");
  ctx.setLineDash([6, 6]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

export function Sparkline({ samples }) {
  if (samples.length < 2) return null;
  const values = samples.slice(-120).map(total);
  const most = Math.max(...values);
  const points = values.map((value, index) => `${(index / (values.length - 1)) * 100},${24 - (value / most) * 22}`).join(" ");
  return <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label="Memory of the last two minutes"><polyline points={points} /></svg>;
}
