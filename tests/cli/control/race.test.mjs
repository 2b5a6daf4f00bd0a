// A double spend, made to happen: two calls that both want the last credit, held at a gate and let go in each order.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

const { FAKE_CREDITS_URL, FAKE_CREDITS_CONTROL_TOKEN } = process.env; // from `fake-credits run -- node --test`
let sandbox;

async function control(method, path, body) {
  const response = await fetch(`${FAKE_CREDITS_URL}/_fake${path}`, {
    method,
    headers: { "X-Fake-Credits-Control": FAKE_CREDITS_CONTROL_TOKEN, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

async function spend() {
  const url = `${sandbox.base_url}/v1/applications/app-id/users/ada/transactions`;
  const headers = { "X-API-Key": sandbox.api_key, "Content-Type": "application/json" };
  return (await fetch(url, { method: "POST", headers, body: '{"delta":-1,"reason":"consume"}' })).status;
}

before(async () => { sandbox = await control("POST", "/sandboxes", { users: { ada: 1 } }); });
after(async () => {
  const { problems } = await control("DELETE", `/sandboxes/${sandbox.name}`);
  assert.deepEqual(problems, []);
});

for (const order of [[0, 1], [1, 0]]) {
  test(`of two calls for the last credit the first released gets it: ${order}`, async () => {
    await control("POST", `/sandboxes/${sandbox.name}/reset`);
    const gate = `/sandboxes/${sandbox.name}/gates/spend`;
    await control("POST", `/sandboxes/${sandbox.name}/gates`, { name: "spend", operation: "createTransaction" });
    const calls = [];
    for (const count of [1, 2]) {
      calls.push(spend());
      await control("POST", `${gate}/wait`, { count });
    }
    await control("POST", `${gate}/release`, { order });
    assert.deepEqual(await Promise.all(calls), order[0] === 0 ? [201, 402] : [402, 201]);
  });
}
