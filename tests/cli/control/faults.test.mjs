// Faults: a blind retry after a lost response charges twice, and the journal shows it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, told, withSandbox } from "./sandbox.mjs";

const sandbox = withSandbox({ users: { ada: 10 } });
const lost = { effect: "reset", operation: "createTransaction", phase: "after", nth: 1 };

test("a lost response commits, so a blind retry charges twice", async () => {
  const rule = await sandbox.told("POST", "/faults", lost);
  await assert.rejects(sandbox.spend(), TypeError);
  assert.equal(await sandbox.spend(), 201);
  assert.equal(await sandbox.balance(), 8);
  const { entries } = await sandbox.told("GET", "/journal?committed=true&delivered=false");
  assert.deepEqual(entries.map((entry) => entry.rule), [rule.name]);
  assert.equal((await sandbox.told("GET", `/faults/${encodeURIComponent(rule.name)}`)).fired, 1);
});

test("rules are listed, removed and cleared", async () => {
  await sandbox.told("POST", "/reset");
  const { name } = await sandbox.told("POST", "/faults", { script: [503, "ok", 429] });
  await sandbox.told("POST", "/faults", { effect: "status", status: 500 });
  assert.deepEqual([await sandbox.spend(), await sandbox.spend(), await sandbox.spend()], [503, 201, 429]);
  await sandbox.told("DELETE", `/faults/${encodeURIComponent(name)}`);
  assert.equal(await sandbox.spend(), 500);
  assert.deepEqual((await sandbox.told("GET", "/faults")).faults.map((rule) => rule.fired), [1]);
  await sandbox.told("DELETE", "/faults");
  assert.equal(await sandbox.spend(), 201);
});

test("a preset is a bad day by its name, and a scenario is one of one's own", async () => {
  const { presets } = await told("GET", "/presets");
  assert.ok(presets.some((preset) => preset.name === "outage"));
  await sandbox.told("POST", "/faults/load", { preset: "outage" });
  assert.equal(await sandbox.spend(), 503);
  await sandbox.told("POST", "/reset");
  await sandbox.told("POST", "/faults/load", { latency: "fixed(1)", rules: [{ effect: "status", status: 502 }] });
  assert.equal(await sandbox.spend(), 502);
});

test("a rule that can't be is refused with what it may be", async () => {
  const { status, body } = await ask("POST", `${sandbox.path}/faults`, { effect: "burn" });
  assert.equal(status, 400);
  assert.match(body.error.message, /effect is 'burn': choose .*'latency', 'status'/);
});

test("a gate holds a call after it has committed, and tells whom it holds", async () => {
  await sandbox.told("POST", "/reset");
  await sandbox.told("POST", "/gates", { name: "held", operation: "writes", phase: "after", user: "ada" });
  const call = sandbox.spend();
  await sandbox.told("POST", "/gates/held/wait", { count: 1, limit_s: 10 });
  assert.equal(await sandbox.balance(), 9);
  assert.deepEqual((await sandbox.told("GET", "/gates/held")).held.map((each) => each.user), ["ada"]);
  assert.deepEqual((await sandbox.told("GET", "/gates")).gates.map((gate) => gate.is_open), [false]);
  await sandbox.told("POST", "/gates/held/release");
  assert.equal(await call, 201);
  assert.equal((await ask("POST", `${sandbox.path}/gates/held/wait`, { count: 2, limit_s: 0.01 })).status, 409);
});
