// Time: a month passes in a moment, tokens expire, and what was to happen later happens.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, withSandbox } from "./sandbox.mjs";

const sandbox = withSandbox({ clock: "2030-01-01T00:00:00Z", users: { ada: 5 } });

test("createdAt goes by the sandbox's clock, forward only", async () => {
  await sandbox.told("POST", "/clock/advance", { days: 30 });
  await sandbox.spend();
  await sandbox.told("POST", "/clock/travel", { to: "2031-01-01T00:00:00Z" });
  await sandbox.spend();
  const history = await (await sandbox.call("GET", "ada/transactions")).json();
  const times = history.transactions.slice(0, 2).map((each) => each.createdAt);
  assert.deepEqual(times, ["2031-01-01T00:00:00.000Z", "2030-01-31T00:00:00.000Z"]);
  assert.equal((await ask("POST", `${sandbox.path}/clock/travel`, { to: "2030-01-01T00:00:00Z" })).status, 400);
});

test("a token expires with it", async () => {
  const token = await sandbox.told("POST", "/tokens", { user_id: "ada", expires_in_s: 60 });
  assert.equal((await sandbox.call("GET", "ada/balance", token)).status, 200);
  await sandbox.told("POST", "/clock/advance", { minutes: 2 });
  assert.equal((await sandbox.call("GET", "ada/balance", token)).status, 401);
});

test("a write that lands after its client gave up is parked until the clock gets there", async () => {
  await sandbox.told("POST", "/reset");
  await sandbox.told("POST", "/faults", { effect: "late_write", after_ms: 60000 });
  const body = JSON.stringify({ delta: -1, reason: "consume" });
  const headers = { "X-API-Key": sandbox.api_key, "Content-Type": "application/json" };
  const url = `${sandbox.base_url}/v1/applications/app-id/users/ada/transactions`;
  await assert.rejects(fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(200) }));
  assert.equal((await sandbox.told("GET", "/clock")).parked.length, 1);
  assert.equal(await sandbox.balance(), 5);
  assert.equal((await sandbox.told("POST", "/clock/settle")).settled, 1);
  assert.equal(await sandbox.balance(), 4);
});

test("a clock can be stopped, and the same calls give the same journal", async () => {
  const journals = [];
  for (let round = 0; round < 2; round += 1) {
    await sandbox.told("POST", "/reset");
    assert.equal((await sandbox.told("POST", "/clock/freeze")).mode, "frozen");
    await sandbox.told("POST", "/faults", { effect: "status", status: 503, probability: 0.5 });
    for (let call = 0; call < 10; call += 1) await sandbox.spend();
    journals.push((await sandbox.told("GET", "/journal/canonical")).canonical);
  }
  assert.equal(journals[0], journals[1]);
  assert.ok(journals[0].includes("503") && journals[0].includes("201"));
});
