// Sandboxes, users and tokens: each test file has a separate sandbox.
import assert from "node:assert/strict";
import { test } from "node:test";
import { request, requestJson, withSandbox } from "./sandbox.mjs";

const sandbox = withSandbox({ users: { ada: 100 }, seed: 5 });

test("the sandbox is one of several, and not the default", async () => {
  const { sandboxes } = await requestJson("GET", "/sandboxes");
  assert.equal(sandboxes[0].is_default, true);
  assert.equal(sandboxes.find((item) => item.name === sandbox.name).seed, 5);
  assert.equal((await requestJson("GET", sandbox.path)).api_key, sandbox.api_key);
  assert.equal((await request("DELETE", "/sandboxes/default")).body.error.code, "conflict");
});

test("users have the balances that were set over the control plane", async () => {
  assert.equal((await sandbox.requestJson("PUT", "/users/bob", { balance: 7 })).balance, 7);
  const history = [100, { delta: -10, reason: "consume" }];
  const { transactions } = await sandbox.requestJson("POST", "/users/eve/transactions", { transactions: history });
  assert.deepEqual(transactions.map(({ delta }) => delta), [100, -10]);
  assert.deepEqual(await sandbox.requestJson("GET", "/users/eve/transactions"), { transactions });
  assert.equal((await sandbox.requestJson("DELETE", "/users/eve")).balance, 90);
  assert.ok(!(await sandbox.requestJson("GET", "/users")).users.some(({ user_id }) => user_id === "eve"));
  assert.equal((await (await sandbox.call("GET", "bob/balance")).json()).balance, 7);
  assert.equal(await sandbox.spend("bob"), 201);
  assert.equal(await sandbox.balance("bob"), 6);
});

test("a valid token can read and an expired one is rejected", async () => {
  const validToken = await sandbox.requestJson("POST", "/tokens", { user_id: "ada" });
  assert.equal((await sandbox.call("GET", "ada/balance", validToken)).status, 200);
  const expiredToken = await sandbox.requestJson("POST", "/tokens", { user_id: "ada", bad: "expired" });
  const response = await sandbox.call("GET", "ada/balance", expiredToken);
  assert.deepEqual([response.status, response.headers.get("x-fake-credits-cause")], [401, "auth:expired"]);
});

test("a user of a trusted issuer is bound to the sandbox", async () => {
  const { issuer } = await (await fetch(`${sandbox.base_url}/.well-known/openid-configuration`)).json();
  const binding = { issuer, user_id: "carol" };
  assert.deepEqual(await sandbox.requestJson("POST", "/bindings", binding), binding);
});

test("reset restores the initial balances", async () => {
  await sandbox.spend();
  await sandbox.requestJson("POST", "/reset");
  assert.equal(await sandbox.balance(), 100);
});

test("an unknown option is rejected with its field", async () => {
  const { status, body } = await request("POST", "/sandboxes", { balence: 1 });
  assert.deepEqual([status, body.error.code, body.error.details[0].field], [400, "validation_error", "balence"]);
});
