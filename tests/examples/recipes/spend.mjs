const { CREDITS_BASE_URL, CREDITS_API_KEY, CREDITS_USER_ID } = process.env;
const url = `${CREDITS_BASE_URL}/v1/applications/app-id/users/${CREDITS_USER_ID}/transactions`;
const headers = { "X-API-Key": CREDITS_API_KEY, "Content-Type": "application/json" };
const body = JSON.stringify({ delta: -10, reason: "consume" });
const response = await fetch(url, { method: "POST", headers, body });
console.log(response.status, (await response.json()).delta);
