import assert from "node:assert/strict";
import { test } from "node:test";

const { CREDITS_BASE_URL, CREDITS_API_KEY, CREDITS_APPLICATION_ID, SHOP = "naive" } = process.env;

async function call(path, body) {
  const response = await fetch(`${CREDITS_BASE_URL}/v1/applications/${CREDITS_APPLICATION_ID}/users/ada/${path}`, {
    method: body ? "POST" : "GET",
    headers: { "X-API-Key": CREDITS_API_KEY, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

const readBalance = async () => (await call("balance")).balance;
const charge = () => call("transactions", { delta: -10, reason: "consume" });

// In place of your application's code: both shops try once more, and only one looks first.
const shops = {
  async naive() {
    await charge().catch(charge);
  },
  async careful() {
    const before = await readBalance();
    await charge().catch(async () => {
      if ((await readBalance()) === before) await charge();
    });
  },
};

test("a purchase costs 10 credits", async () => {
  await shops[SHOP]();
  assert.equal(await readBalance(), 90);
});
