// The README's whole example with fetch: the server's part with the API key, the user's part with a token.
// A failed assertion throws, so Node exits with 1.
import assert from "node:assert/strict";

const { CREDITS_BASE_URL, CREDITS_API_KEY, CREDITS_APPLICATION_ID, CREDITS_USER_ID, CREDITS_USER_TOKEN } = process.env;
const application = `${CREDITS_BASE_URL}/v1/applications/${encodeURIComponent(CREDITS_APPLICATION_ID)}`;
const user = `${application}/users/${encodeURIComponent(CREDITS_USER_ID)}`;
const server = { "X-API-Key": CREDITS_API_KEY };
const bearer = { Authorization: `Bearer ${CREDITS_USER_TOKEN}` };

async function call(method, url, headers, body) {
  const options = { method, headers: { ...headers } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(url, options);
  return { status: response.status, body: await response.json() };
}

async function transact(headers, delta, reason) {
  return call("POST", `${user}/transactions`, headers, { delta, reason });
}

// createUser is idempotent; grant 100, consume 10; list the users; any user's balance.
assert.equal((await call("PUT", user, server)).status, 201);
assert.equal((await call("PUT", user, server)).status, 200);
const granted = await transact(server, 100, "grant");
assert.equal(granted.status, 201);
assert.deepEqual(Object.keys(granted.body).sort(), ["createdAt", "delta", "reason"]);
assert.equal((await transact(server, -10, "consume")).status, 201);
const users = (await call("GET", `${application}/users`, server)).body.users;
assert.deepEqual(users.map((item) => item.userId), [CREDITS_USER_ID]);
assert.deepEqual((await call("GET", `${user}/balance`, server)).body, { balance: 90 });

// The user reads balance, history and itself.
const balance = await call("GET", `${user}/balance`, bearer);
assert.equal(`Balance: ${balance.body.balance} credits`, "Balance: 90 credits");
const history = (await call("GET", `${user}/transactions`, bearer)).body;
assert.deepEqual(history.transactions.map((item) => item.delta), [-10, 100]);
assert.ok(history.transactions.every((one) => !Number.isNaN(new Date(one.createdAt).getTime())));
assert.equal("nextCursor" in history, false);
assert.equal((await call("GET", user, bearer)).body.userId, CREDITS_USER_ID);

// These calls are rejected and change nothing.
const rejected = [
  [await transact(bearer, 1000, "grant"), 403, "insufficient_scope"],
  [await call("PUT", user, bearer), 403, "insufficient_scope"],
  [await call("GET", `${application}/users`, bearer), 403, "insufficient_scope"],
  [await call("GET", `${application}/users/somebody-else/balance`, bearer), 403, "forbidden"],
  [await call("GET", `${application}/users/somebody-else/transactions`, bearer), 403, "forbidden"],
  [await call("GET", `${application}/users/somebody-else`, bearer), 403, "forbidden"],
  [await call("GET", `${user}/balance`, { Authorization: `Bearer ${CREDITS_USER_TOKEN.slice(0, -4)}AAAA` }), 401, "invalid_token"],
  [await call("GET", `${user}/balance`, {}), 401, "missing_credentials"],
  [await transact(server, -91, "consume"), 402, "insufficient_credits"],
];
for (const [response, status, code] of rejected) {
  assert.deepEqual([response.status, response.body.error.code], [status, code]);
}
assert.deepEqual((await call("GET", `${user}/balance`, server)).body, { balance: 90 });
console.log("all as the README says");
