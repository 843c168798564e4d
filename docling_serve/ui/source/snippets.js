// The same request as code, for those who go on from the page.
import { base } from "./api.js";
import { bodyOf, fieldsOf, routeOf } from "./jobs.js";

const quote = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;
const python = (value) => JSON.stringify(value).replace(/\btrue\b/g, "True").replace(/\bfalse\b/g, "False").replace(/\bnull\b/g, "None");

export function snippets(sources, options, withKey, chunker = "") {
  const url = sources.find((source) => typeof source === "string");
  const names = sources.filter((source) => typeof source !== "string").map((file) => file.name);
  const files = names.length || url ? names : ["document.pdf"];
  const at = `${base}${routeOf(chunker, url ? "source" : "file")}`;
  const body = bodyOf(url, options, chunker);
  const fields = fieldsOf(options, chunker);
  const data = {};
  for (const [name, value] of fields) data[name] = name in data ? [data[name], value].flat() : value;
  const answer = chunker ? "chunks" : "document";
  const curlKey = withKey ? ` \\\n  -H "X-Api-Key: $DOCLING_SERVE_API_KEY"` : "";
  const curl = url
    ? `curl ${quote(at)}${curlKey} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quote(JSON.stringify(body))}`
    : `curl ${quote(at)}${curlKey}${files.map((name) => ` \\\n  -F ${quote(`files=@${name}`)}`).join("")}${fields.map(([k, v]) => ` \\\n  -F ${quote(`${k}=${v}`)}`).join("")}`;
  const pyKey = withKey ? `\n    headers={"X-Api-Key": os.environ["DOCLING_SERVE_API_KEY"]},` : "";
  const pyImport = `${withKey ? "import os\n\n" : ""}import httpx\n\n`;
  const py = url
    ? `${pyImport}reply = httpx.post(\n    ${python(at)},${pyKey}\n    json=${python(body)},\n    timeout=None,\n)\nprint(reply.raise_for_status().json()["${answer}"])`
    : `${pyImport}reply = httpx.post(\n    ${python(at)},${pyKey}\n    files=[${files.map((name) => `("files", open(${python(name)}, "rb"))`).join(", ")}],\n    data=${python(data)},\n    timeout=None,\n)\nprint(reply.raise_for_status().json()["${answer}"])`;
  const jsKey = withKey ? `  headers: { "X-Api-Key": key },\n` : "";
  const js = url
    ? `const reply = await fetch(${JSON.stringify(at)}, {\n  method: "POST",\n  headers: { "Content-Type": "application/json"${withKey ? `, "X-Api-Key": key` : ""} },\n  body: JSON.stringify(${JSON.stringify(body)}),\n});\nconsole.log((await reply.json()).${answer});`
    : `const form = new FormData();\nfor (const file of input.files) form.append("files", file);\n${fields.map(([k, v]) => `form.append(${JSON.stringify(k)}, ${JSON.stringify(v)});\n`).join("")}const reply = await fetch(${JSON.stringify(at)}, {\n  method: "POST",\n${jsKey}  body: form,\n});\nconsole.log((await reply.json()).${answer});`;
  return { curl, Python: py, JavaScript: js };
}
