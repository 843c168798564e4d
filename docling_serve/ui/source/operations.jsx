// The Operations view: workers, memory, GPUs and failures, live.
import { useState } from "preact/hooks";
import { ask } from "./api.js";
import { Staircase } from "./chart.jsx";
import { bytes, capital, seconds, words } from "./format.js";
import { giveMemoryBack, management, offered, samples, snapshot } from "./store.js";

const REASONS = {
  idle: "nothing was left to do", max_tasks: "it had run its number of tasks", max_rss: "its memory passed subprocess_max_rss",
  max_vram: "its GPU memory passed subprocess_max_vram", growth: "its memory grew", timed_out: "its task ran too long",
  stalled: "its task made no progress", out_of_memory: "memory ran out", make_room: "another task needed the GPU memory",
  memory_limit: "its task took too much memory", cancelled: "its task was cancelled", cleared: "memory was asked back",
  shutdown: "the server stops", start_failed: "it did not start", crashed: "it crashed", protocol: "it sent something unreadable",
  pipe_lost: "it closed its connection",
};

// What clients of this server can choose from.
function Offers() {
  const now = offered.value;
  if (!now) return null;
  const limits = { ...now.limits, max_file_size: now.limits.max_file_size && bytes(now.limits.max_file_size) };
  return (
    <details class="offers">
      <summary>What this server offers</summary>
      {now.versions && <><h4>Versions</h4><Facts of={now.versions} /></>}
      <h4>Limits</h4><Facts of={Object.fromEntries(Object.entries(limits).map(([name, value]) => [words(name.replace("max_", "")), String(value ?? "none")]))} />
      <h4>Sources and targets</h4><Facts of={{ Sources: now.sources.join(", "), Targets: now.targets.allowed.join(", "), Default: now.targets.default }} />
      <h4>Presets</h4>
      <Facts of={Object.fromEntries(Object.entries(now.stages).map(([name, stage]) => [words(name), stage.presets.map((preset) => preset.id + (preset.id === stage.default ? " (default)" : "")).join(", ") || "none"]))} />
    </details>
  );
}

export function Operations() {
  const [said, setSaid] = useState("");
  const now = snapshot.value;
  if (management.value === "closed") {
    return <main id="main"><h2>Operations</h2><p>This server shows no internals: <code>DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS=true</code> opens this view.</p><Offers /></main>;
  }
  if (!now) return <main id="main"><h2>Operations</h2><p class="quiet">{management.value === "refused" ? "The server asks for the API key." : "Waiting for figures."}</p></main>;
  const act = async (work, text) => {
    try {
      await work();
      setSaid(text);
    } catch (problem) {
      setSaid(problem.message);
    }
  };
  const pool = now.pool;
  return (
    <main id="main" class="operations">
      <h2>Operations</h2>
      <p><button type="button" onClick={() => act(giveMemoryBack, "Workers that hold models end as soon as they have no task.")}>Give memory back now</button> <span role="status">{said}</span></p>
      <Staircase samples={samples.value} />
      {!now.subprocess_mode && <p>Conversions run in the server process: its memory does not come back. <code>DOCLING_SERVE_USE_SUBPROCESS=true</code> runs them in workers.</p>}
      {pool && (
        <section aria-labelledby="workers-title">
          <h3 id="workers-title">Workers</h3>
          <ul class="cards">
            {pool.template && <li class="card"><h4>Template</h4><Facts of={{ "Process": pool.template.pid, Memory: bytes(pool.template.rss_bytes) }} /></li>}
            {pool.workers.map((worker) => (
              <li class="card" key={worker.number}>
                <h4>Worker {worker.number} <span class={`badge ${worker.state}`}>{worker.state}</span></h4>
                <Facts of={{
                  Task: worker.task_id ? <a href={`#/tasks/${worker.task_id.split(".p")[0]}`}>{worker.task_id.slice(0, 8)}</a> : "none",
                  "Waits for": worker.waits_for, Memory: `${bytes(worker.rss_bytes)}, at most ${bytes(worker.peak_rss_bytes)}`,
                  "GPU memory": worker.vram_bytes === null ? null : `${bytes(worker.vram_bytes)}, at most ${bytes(worker.peak_vram_bytes)}`,
                  Age: seconds(worker.age_s), "Tasks done": worker.jobs_done, Process: worker.pid,
                }} />
                <button type="button" class="plain" aria-label={`Stop worker ${worker.number}`}
                  onClick={() => act(() => ask(`v1/workers/${worker.number}`, { method: "DELETE" }), `Worker ${worker.number} stops.`)}>Stop</button>
              </li>
            ))}
            {!pool.workers.length && <li class="quiet">No worker runs: no memory is held for conversions.</li>}
          </ul>
        </section>
      )}
      <Gpu now={now} />
      <section aria-labelledby="outcomes-title">
        <h3 id="outcomes-title">Tasks that ended since the start</h3>
        {Object.keys(now.outcomes).length ? <Facts of={Object.fromEntries(Object.entries(now.outcomes).map(([name, count]) => [words(name), count]))} /> : <p class="quiet">None yet.</p>}
      </section>
      {pool?.ended.length > 0 && (
        <section aria-labelledby="ended-title">
          <h3 id="ended-title">Workers that ended last</h3>
          <ul class="ended">{[...pool.ended].reverse().map((worker) => (
            <li key={worker.number}>Worker {worker.number}, after {seconds(worker.age_s)} and {worker.jobs_done} tasks, at most {bytes(worker.peak_rss_bytes)}: {REASONS[worker.reason] || worker.reason}{worker.exit_code ? ` (exit ${worker.exit_code})` : ""}.
              {worker.last_output.length > 0 && <details><summary>Its last output</summary><pre>{worker.last_output.join("\n")}</pre></details>}
            </li>
          ))}</ul>
        </section>
      )}
      <Offers />
    </main>
  );
}

function Facts({ of }) {
  return <dl class="facts">{Object.entries(of).filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => <div><dt>{name}</dt><dd>{value}</dd></div>)}</dl>;
}

function Gpu({ now }) {
  const gpu = now.sample?.gpu;
  return (
    <section aria-labelledby="gpu-title">
      <h3 id="gpu-title">GPU</h3>
      {gpu ? <><GpuBar gpu={gpu} /><Facts of={{ Ours: bytes(gpu.ours), Others: bytes(gpu.others), Free: bytes(gpu.total - gpu.ours - gpu.others) }} /></>
        : <p class="quiet">{capital("no GPU whose memory the driver reports.")}</p>}
    </section>
  );
}

export function GpuBar({ gpu }) {
  const share = (part) => (part / gpu.total) * 100;
  const text = `GPU memory: ${bytes(gpu.ours)} ours, ${bytes(gpu.others)} of other programs, of ${bytes(gpu.total)}`;
  return (
    <svg class="gpu" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={text}>
      <title>{text}</title>
      <rect class="ours" width={share(gpu.ours)} height="8" /><rect class="others" x={share(gpu.ours)} width={share(gpu.others)} height="8" />
    </svg>
  );
}
