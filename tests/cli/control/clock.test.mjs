// The sandbox's clock: advancing, token expiry and parked writes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { request, withSandbox } from "./sandbox.mjs";

const sandbox = withSandbox({ clock: "2030-01-01T00:00:00Z", users: { ada: 5 } });

test("createdAt follows the sandbox's clock, which only moves forward", async () => {
  await sandbox.requestJson("POST", "/clock/advance", { days: 30 });
  await sandbox.spend();
  await sandbox.requestJson("POST", "/clock/travel", { to: "2031-01-01T00:00:00Z" });
  await sandbox.spend();
  const history = await (await sandbox.call("GET", "ada/transactions")).json();
  const times = history.transactions.slice(0, 2).map((transaction) => transaction.createdAt);
  assert.deepEqual(times, ["2031-01-01T00:00:00.000Z", "2030-01-31T00:00:00.000Z"]);
  assert.equal((await request("POST", `${sandbox.path}/clock/travel`, { to: "2030-01-01T00:00:00Z" })).status, 400);
});

test("tokens expire by the sandbox's clock", async () => {
  const token = await sandbox.requestJson("POST", "/tokens", { user_id: "ada", expires_in_s: 60 });
  assert.equal((await sandbox.call("GET", "ada/balance", token)).status, 200);
  await sandbox.requestJson("POST", "/clock/advance", { minutes: 2 });
  assert.equal((await sandbox.call("GET", "ada/balance", token)).status, 401);
});

test("a late write is parked until the clock reaches its time", async () => {
  await sandbox.requestJson("POST", "/reset");
  await sandbox.requestJson("POST", "/faults", { effect: "late_write", after_ms: 60000 });
  const body = JSON.stringify({ delta: -1, reason: "consume" });
  const headers = { "X-API-Key": sandbox.api_key, "Content-Type": "application/json" };
  const url = `${sandbox.base_url}/v1/applications/app-id/users/ada/transactions`;
  await assert.rejects(fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(200) }));
  assert.equal((await sandbox.requestJson("GET", "/clock")).parked.length, 1);
  assert.equal(await sandbox.balance(), 5);
  assert.equal((await sandbox.requestJson("POST", "/clock/settle")).settled, 1);
  assert.equal(await sandbox.balance(), 4);
});

test("the same calls under a frozen clock give the same journal", async () => {
  const journals = [];
  for (let round = 0; round < 2; round += 1) {
    await sandbox.requestJson("POST", "/reset");
    assert.equal((await sandbox.requestJson("POST", "/clock/freeze")).mode, "frozen");
    await sandbox.requestJson("POST", "/faults", { effect: "status", status: 503, probability: 0.5 });
    for (let call = 0; call < 10; call += 1) await sandbox.spend();
    journals.push((await sandbox.requestJson("GET", "/journal/canonical")).canonical);
  }
  assert.equal(journals[0], journals[1]);
  assert.ok(journals[0].includes("503") && journals[0].includes("201"));
});
