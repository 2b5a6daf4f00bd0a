import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { openSandbox, spend } from "./credits.cjs";

let sandbox;
before(async () => { sandbox = await openSandbox({ users: { ada: 1 } }); });
afterEach(() => sandbox.reset());
after(() => sandbox.close());

for (const [order, statuses] of [[[0, 1], [201, 402]], [[1, 0], [402, 201]]]) {
  test(`the call that is released first gets the last credit: ${order}`, async () => {
    await sandbox.control("POST", "/gates", { name: "spend", operation: "createTransaction" });
    const calls = [];
    for (const count of [1, 2]) {
      calls.push(spend("ada", 1));
      await sandbox.control("POST", "/gates/spend/wait", { count });
    }
    await sandbox.control("POST", "/gates/spend/release", { order });
    assert.deepEqual(await Promise.all(calls), statuses);
  });
}
