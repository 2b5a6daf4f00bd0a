const { CREDITS_BASE_URL, CREDITS_API_KEY, CREDITS_USER_ID } = process.env;
const response = await fetch(`${CREDITS_BASE_URL}/v1/applications/app-id/users/${CREDITS_USER_ID}/transactions`, {
  method: "POST",
  headers: { "X-API-Key": CREDITS_API_KEY, "Content-Type": "application/json" },
  body: JSON.stringify({ delta: -10, reason: "consume" }),
});
console.log(response.status, (await response.json()).delta);
