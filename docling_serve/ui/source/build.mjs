// Builds the page: source/ and the libraries of package-lock.json become ../app.js, ../style.css,
// ../preview.css and ../licences.txt, which the server serves and the wheel contains.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync, existsSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url);
const out = new URL("../", here);
const read = (name) => readFileSync(new URL(name, here));

// A test compares this with the sources, so that a bundle of older sources is noticed.
export function digest() {
  const hash = createHash("sha256");
  const names = readdirSync(here).filter((name) => /\.(jsx?|mjs|css|json)$/.test(name)).sort();
  for (const name of names) hash.update(name).update("\0").update(read(name)).update("\0");
  return hash.digest("hex");
}

const banner = `/* sources ${digest()}; licences of libraries: licences.txt */`;
const common = { bundle: true, minify: true, target: "es2021", legalComments: "none", logLevel: "info" };
const file = (name) => new URL(name, import.meta.url).pathname;
await build({
  ...common, entryPoints: [file("main.jsx")], outfile: new URL("app.js", out).pathname,
  format: "esm", jsx: "automatic", jsxImportSource: "preact", banner: { js: banner },
  define: { "process.env.NODE_ENV": '"production"' },
});
await build({ ...common, entryPoints: [file("style.css")], outfile: new URL("style.css", out).pathname });
await build({ ...common, entryPoints: [file("preview.css")], outfile: new URL("preview.css", out).pathname });

const parts = [];
for (const [path, about] of Object.entries(JSON.parse(read("package-lock.json")).packages)) {
  if (!path || about.dev) continue;
  const folder = new URL(path + "/", here);
  const texts = readdirSync(folder).filter((name) => /^licen[cs]e/i.test(name)).sort();
  // One of two licences is enough; the shorter name is the one that is chosen.
  const name = texts[0];
  if (!name || !existsSync(new URL(name, folder))) continue;
  const package_ = JSON.parse(readFileSync(new URL("package.json", folder)));
  parts.push(`${package_.name} ${package_.version} (${package_.license})\n\n${readFileSync(new URL(name, folder))}`);
}
writeFileSync(new URL("licences.txt", out), parts.join(`\n${"-".repeat(80)}\n\n`));
