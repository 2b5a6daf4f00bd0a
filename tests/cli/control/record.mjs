// Preloaded by the Python test that runs these files: records each request, to find routes that were never used.
import { appendFileSync } from "node:fs";

const originalFetch = globalThis.fetch;
globalThis.fetch = (url, options = {}) => {
  appendFileSync(process.env.RECORDED, `${options.method ?? "GET"} ${new URL(url).pathname}\n`);
  return originalFetch(url, options);
};
