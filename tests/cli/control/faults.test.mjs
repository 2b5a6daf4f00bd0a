// Faults: a blind retry after a lost response charges twice, and the journal shows it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { request, requestJson, withSandbox } from "./sandbox.mjs";

const sandbox = withSandbox({ users: { ada: 10 } });
const lost = { effect: "reset", operation: "createTransaction", phase: "after", nth: 1 };

test("a lost response is committed, so a blind retry charges twice", async () => {
  const rule = await sandbox.requestJson("POST", "/faults", lost);
  await assert.rejects(sandbox.spend(), TypeError);
  assert.equal(await sandbox.spend(), 201);
  assert.equal(await sandbox.balance(), 8);
  const { entries } = await sandbox.requestJson("GET", "/journal?committed=true&delivered=false");
  assert.deepEqual(entries.map((entry) => entry.rule), [rule.name]);
  assert.equal((await sandbox.requestJson("GET", `/faults/${encodeURIComponent(rule.name)}`)).fired, 1);
});

test("rules are listed, removed and cleared", async () => {
  await sandbox.requestJson("POST", "/reset");
  const { name } = await sandbox.requestJson("POST", "/faults", { script: [503, "ok", 429] });
  await sandbox.requestJson("POST", "/faults", { effect: "status", status: 500 });
  assert.deepEqual([await sandbox.spend(), await sandbox.spend(), await sandbox.spend()], [503, 201, 429]);
  await sandbox.requestJson("DELETE", `/faults/${encodeURIComponent(name)}`);
  assert.equal(await sandbox.spend(), 500);
  assert.deepEqual((await sandbox.requestJson("GET", "/faults")).faults.map((rule) => rule.fired), [1]);
  await sandbox.requestJson("DELETE", "/faults");
  assert.equal(await sandbox.spend(), 201);
});

test("presets load by name and scenarios as objects", async () => {
  const { presets } = await requestJson("GET", "/presets");
  assert.ok(presets.some((preset) => preset.name === "outage"));
  await sandbox.requestJson("POST", "/faults/load", { preset: "outage" });
  assert.equal(await sandbox.spend(), 503);
  await sandbox.requestJson("POST", "/reset");
  await sandbox.requestJson("POST", "/faults/load", { latency: "fixed(1)", rules: [{ effect: "status", status: 502 }] });
  assert.equal(await sandbox.spend(), 502);
});

test("an invalid rule is rejected with the allowed values", async () => {
  const { status, body } = await request("POST", `${sandbox.path}/faults`, { effect: "burn" });
  assert.equal(status, 400);
  assert.match(body.error.message, /effect is 'burn': it must be 'latency', 'status'/);
});

test("a gate holds a committed call and lists it", async () => {
  await sandbox.requestJson("POST", "/reset");
  await sandbox.requestJson("POST", "/gates", { name: "held", operation: "writes", phase: "after", user: "ada" });
  const call = sandbox.spend();
  await sandbox.requestJson("POST", "/gates/held/wait", { count: 1, limit_s: 10 });
  assert.equal(await sandbox.balance(), 9);
  assert.deepEqual((await sandbox.requestJson("GET", "/gates/held")).held.map((call) => call.user), ["ada"]);
  assert.deepEqual((await sandbox.requestJson("GET", "/gates")).gates.map((gate) => gate.is_open), [false]);
  await sandbox.requestJson("POST", "/gates/held/release");
  assert.equal(await call, 201);
  assert.equal((await request("POST", `${sandbox.path}/gates/held/wait`, { count: 2, limit_s: 0.01 })).status, 409);
});
