// The documents that the server has for trying it out, in docling_serve/ui/samples.
import { ask } from "./api.js";

export const SAMPLES = [
  ["scan.pdf", "3 scanned pages with columns, a picture and a table"],
  ["scan.png", "a photographed notice"],
  ["letter.docx", "a letter"],
  ["page.html", "a page with a table"],
];

export async function sample(name) {
  const reply = await ask(`ui/samples/${name}`);
  return new File([await reply.blob()], name);
}
