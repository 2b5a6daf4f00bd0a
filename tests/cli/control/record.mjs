// Preloaded by the test that runs these files: it notes each request, so that it can tell which routes were never used.
import { appendFileSync } from "node:fs";

const inner = globalThis.fetch;
globalThis.fetch = (url, options = {}) => {
  appendFileSync(process.env.RECORDED, `${options.method ?? "GET"} ${new URL(url).pathname}\n`);
  return inner(url, options);
};
