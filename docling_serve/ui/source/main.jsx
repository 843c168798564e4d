// The page at /ui/: three views under one strip. It uses the public API only.
import { render } from "preact";
import { apiKey, setKey } from "./api.js";
import { Sparkline, total } from "./chart.jsx";
import { Convert, listenForDrops } from "./convert.jsx";
import { bytes, seconds } from "./format.js";
import { GpuBar, Operations } from "./operations.jsx";
import { capacity, connection, keyRefused, offered, route, samples, snapshot, start } from "./store.js";
import { Tasks } from "./tasks.jsx";

const VIEWS = { convert: ["Convert", Convert], tasks: ["Tasks", Tasks], operations: ["Operations", Operations] };
const WORDS = { connecting: "Connecting", connected: "Connected", lost: "No connection, trying again", refused: "API key needed" };

function Strip() {
  const now = snapshot.value?.sample;
  const queue = capacity.value;
  const queued = queue ? queue.queued + (queue.light?.queued || 0) : snapshot.value?.waiting;
  return (
    <div class="strip" aria-label="State of the server" role="region">
      <span class={`dot ${connection.value}`} role="status">{WORDS[connection.value]}</span>
      {queued !== undefined && <span>{queued} queued{queue && `, ${queue.running + (queue.light?.running || 0)} running`}</span>}
      {queue && <span>expected wait {seconds(queue.expected_wait_s)}</span>}
      {now && <span class="memory">{bytes(total(now))} <Sparkline samples={samples.value} /></span>}
      {now?.gpu && <span class="memory">GPU <GpuBar gpu={now.gpu} /></span>}
    </div>
  );
}

function Key() {
  if (!offered.value?.features?.api_key_required && !apiKey.value && !keyRefused.value) return null;
  return (
    <div class="apikey">
      <label for="key">API key</label>
      <input id="key" type="password" autocomplete="off" defaultValue={apiKey.value} onChange={(e) => setKey(e.currentTarget.value)} />
      <span class={keyRefused.value && apiKey.value ? "error" : "quiet"}>{keyRefused.value && apiKey.value ? "The server refuses this key." : "Kept in this browser tab only."}</span>
    </div>
  );
}

// A view that was opened stays as it was when its link is used again.
const lastIds = {};

function Page() {
  const { view, ids } = route.value;
  if (view === "convert") lastIds.convert = ids;
  const href = (name) => name === "convert" && lastIds.convert?.length ? `#/convert/${lastIds.convert.join()}` : `#/${name}`;
  const [, View] = VIEWS[view];
  const version = offered.value?.versions?.["docling-serve"];
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main").querySelector("h2").scrollIntoView(); document.getElementById("main").querySelector("input, button, a, select")?.focus(); }}>To the content</a>
      <header>
        <h1>Docling Serve</h1>
        <nav aria-label="Views">{Object.entries(VIEWS).map(([name, [title]]) => <a href={href(name)} aria-current={name === view ? "page" : undefined}>{title}</a>)}</nav>
        <Strip />
        <Key />
      </header>
      <View />
      <footer class="quiet">{version && <>version {version} · </>}<a href="../docs">API documentation</a> · <a href={document.querySelector("meta[name=licences]").content}>Licences of libraries</a></footer>
    </>
  );
}

listenForDrops();
start();
render(<Page />, document.getElementById("page"));
