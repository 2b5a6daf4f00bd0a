// A sandbox for each test file, over the control plane of `fake-credits run`.
const { CREDITS_APPLICATION_ID, FAKE_CREDITS_URL, FAKE_CREDITS_CONTROL_TOKEN } = process.env;

async function request(method, path, body) {
  const response = await fetch(`${FAKE_CREDITS_URL}/_fake/sandboxes${path}`, {
    method,
    headers: { "X-Fake-Credits-Control": FAKE_CREDITS_CONTROL_TOKEN, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const result = await response.json();
  if (!response.ok) throw new Error(result.error.message);
  return result;
}

async function openSandbox(options) {
  const { name, api_key } = await request("POST", "", options);
  const control = (method, path, body) => request(method, `/${name}${path}`, body);
  process.env.CREDITS_API_KEY = api_key; // the application's calls go to this sandbox from now on
  return {
    control,
    balance: async (user) => (await control("GET", `/users/${user}`)).balance,
    reset: async () => {
      const { problems } = await control("POST", "/reset"); // such as a fault that no call matched
      if (problems.length > 0) throw new Error(problems.join("\n"));
    },
    close: () => control("DELETE", ""),
  };
}

// In place of your application's code
async function spend(user, amount) {
  const path = `/v1/applications/${CREDITS_APPLICATION_ID}/users/${user}/transactions`;
  const response = await fetch(process.env.CREDITS_BASE_URL + path, {
    method: "POST",
    headers: { "X-API-Key": process.env.CREDITS_API_KEY, "Content-Type": "application/json" },
    body: JSON.stringify({ delta: -amount, reason: "consume" }),
  });
  return response.status;
}

module.exports = { openSandbox, spend };
