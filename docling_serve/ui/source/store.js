// What the whole page shares: where it is, what the server offers, and how the server is.
import { signal, effect } from "@preact/signals";
import { apiKey, ask, getJson, keyRefused, pause, stream } from "./api.js";

export const route = signal(readRoute());
export const offered = signal(null); // the capabilities document, null until it is read
export const schema = signal(null); // the options of a request, as JSON schema; null if closed
export const schemaRead = signal(false);
export const ready = signal(false); // whether the capabilities have been asked for
export const connection = signal("connecting"); // connected, lost, refused
export const capacity = signal(null);
export const snapshot = signal(null); // of the operations stream
export const samples = signal([]);
export const management = signal("unknown"); // open, closed, refused

export function readRoute() {
  const [view, rest] = location.hash.replace(/^#\/?/, "").split("/");
  const known = ["convert", "tasks", "operations"].includes(view) ? view : "convert";
  return { view: known, ids: (rest || "").split(",").filter(Boolean).map(decodeURIComponent) };
}

export function goTo(view, ids = []) {
  const address = `#/${view}${ids.length ? `/${ids.map(encodeURIComponent).join(",")}` : ""}`;
  if (address !== location.hash) history.replaceState(null, "", address);
  route.value = readRoute();
}

addEventListener("hashchange", () => {
  route.value = readRoute();
});

export async function readOffers() {
  const reading = getJson("openapi.json").catch(() => null); // slow at its first time
  offered.value = await getJson("v1/capabilities").catch(() => null);
  ready.value = true;
  const components = (await reading)?.components?.schemas;
  schema.value = components ? { ...components.ConvertDocumentsOptions, $defs: components } : null;
  schemaRead.value = true;
}

const KEPT_SAMPLES = 600;

// The operations stream, for as long as the page is open; where it is closed, the capacity is
// looked at now and then, which also tells whether the server is there.
async function watchServer(abort) {
  while (!abort.aborted) {
    try {
      await stream("v1/workers/events", onOperations, { signal: abort });
      if (!abort.aborted) connection.value = "lost";
    } catch (error) {
      if (abort.aborted) return;
      if (error.status === 403 || error.status === 404) {
        management.value = "closed";
        await watchCapacity(abort);
        return;
      }
      if (error.status === 401) {
        management.value = connection.value = "refused";
        return;
      }
      connection.value = "lost";
    }
    await pause(1000);
  }
}

function onOperations({ event, data }) {
  connection.value = "connected";
  management.value = "open";
  if (event === "history") samples.value = data;
  else {
    snapshot.value = data;
    capacity.value = data.capacity;
    const newest = samples.value.at(-1);
    if (data.sample && data.sample.at !== newest?.at) {
      samples.value = [...samples.value, data.sample].slice(-KEPT_SAMPLES);
    }
  }
}

async function watchCapacity(abort) {
  while (!abort.aborted) {
    if (document.visibilityState === "visible") {
      try {
        const answer = await getJson("v1/capacity");
        if (abort.aborted) return;
        capacity.value = answer;
        connection.value = "connected";
      } catch (error) {
        if (abort.aborted) return;
        if (error.status === 401) {
          connection.value = "refused";
          return;
        }
        connection.value = error.status ? "connected" : "lost";
      }
    }
    await pause(4000);
  }
}

let watching = null;
export function start() {
  readOffers();
  effect(() => {
    apiKey.value; // another key: begin again
    watching?.abort();
    watching = new AbortController();
    connection.value = "connecting";
    watchServer(watching.signal);
  });
  effect(() => {
    // Back after the server was away: it may be another one.
    if (connection.value === "connected" && !offered.peek()) readOffers();
  });
}

export const giveMemoryBack = () => ask("v1/clear/converters");
export { keyRefused };
