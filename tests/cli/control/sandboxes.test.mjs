// Sandboxes, users and tokens: what one file does, no other file sees.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, told, withSandbox } from "./sandbox.mjs";

const sandbox = withSandbox({ users: { ada: 100 }, seed: 5 });

test("the sandbox is one of several, and not the default", async () => {
  const { sandboxes } = await told("GET", "/sandboxes");
  assert.equal(sandboxes[0].is_default, true);
  assert.equal(sandboxes.find((one) => one.name === sandbox.name).seed, 5);
  assert.equal((await told("GET", sandbox.path)).api_key, sandbox.api_key);
  assert.equal((await ask("DELETE", "/sandboxes/default")).body.error.code, "conflict");
});

test("users have the balances that were set", async () => {
  assert.equal((await sandbox.told("PUT", "/users/bob", { balance: 7 })).balance, 7);
  assert.equal((await (await sandbox.call("GET", "bob/balance")).json()).balance, 7);
  assert.equal(await sandbox.spend("bob"), 201);
  assert.equal(await sandbox.balance("bob"), 6);
});

test("a user reads by a good token, and a bad one is refused", async () => {
  const good = await sandbox.told("POST", "/tokens", { user_id: "ada" });
  assert.equal((await sandbox.call("GET", "ada/balance", good)).status, 200);
  const bad = await sandbox.told("POST", "/tokens", { user_id: "ada", bad: "expired" });
  const refused = await sandbox.call("GET", "ada/balance", bad);
  assert.deepEqual([refused.status, refused.headers.get("x-fake-credits-cause")], [401, "auth:expired"]);
});

test("reset takes it back to its start", async () => {
  await sandbox.spend();
  await sandbox.told("POST", "/reset");
  assert.equal(await sandbox.balance(), 100);
});

test("what can't be is refused by its name", async () => {
  const { status, body } = await ask("POST", "/sandboxes", { balence: 1 });
  assert.deepEqual([status, body.error.code, body.error.details[0].field], [400, "validation_error", "balence"]);
});
