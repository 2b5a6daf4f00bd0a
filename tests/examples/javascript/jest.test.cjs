const { openSandbox, spend } = require("./credits.cjs");

let sandbox;
beforeAll(async () => { sandbox = await openSandbox({ users: { ada: 100 } }); });
afterEach(() => sandbox.reset());
afterAll(() => sandbox.close());

const LOST_RESPONSE = { effect: "reset", operation: "createTransaction", phase: "after", nth: 1 };

test("a write whose response is lost has been committed", async () => {
  await sandbox.control("POST", "/faults", LOST_RESPONSE);
  await expect(spend("ada", 10)).rejects.toThrow("fetch failed");
  expect(await sandbox.balance("ada")).toBe(90);
});
