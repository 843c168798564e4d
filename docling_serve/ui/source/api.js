// Asking the server. Addresses are relative to the page, so it works below any root path.
import { signal } from "@preact/signals";
import { createParser } from "eventsource-parser";

export const base = new URL("../", location.href.split("#")[0]);
const KEY = "docling-serve-api-key";
export const apiKey = signal(sessionStorage.getItem(KEY) || "");
export const keyRefused = signal(false);

export function setKey(key) {
  apiKey.value = key;
  keyRefused.value = false;
  sessionStorage.setItem(KEY, key);
}

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const headers = (more) => ({ ...(apiKey.value ? { "X-Api-Key": apiKey.value } : {}), ...more });

export async function ask(path, options = {}) {
  let reply;
  try {
    reply = await fetch(new URL(path, base), { ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
  if (reply.status === 401) keyRefused.value = true;
  if (!reply.ok) throw new ApiError(await reason(reply), reply.status);
  return reply;
}

export const getJson = async (path) => (await ask(path)).json();

async function reason(reply) {
  if (reply.status === 401) return "The server asks for an API key, and this is not it.";
  let detail;
  try {
    const body = await reply.json();
    detail = body.detail ?? body.failure?.message;
  } catch {
    // not JSON
  }
  if (Array.isArray(detail)) {
    return detail.map((part) => `${part.loc.slice(1).join(".")}: ${part.msg}`).join("\n");
  }
  return detail || `The server answered ${reply.status} ${reply.statusText}.`;
}

// Server-sent events by fetch, which sends the key as a header; EventSource cannot.
// Calls `on({event, data, id})`; returns when the stream ends.
export async function stream(path, on, { signal: abort, lastId } = {}) {
  const more = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) };
  const reply = await ask(path, { headers: more, signal: abort });
  if (reply.status === 204) return;
  const parser = createParser({
    onEvent: (event) => on({ event: event.event, data: JSON.parse(event.data), id: event.id }),
  });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return; // the connection broke: like its end
    }
    if (part.done) return;
    parser.feed(part.value);
  }
}

export const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));
