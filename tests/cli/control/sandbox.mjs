// What the other files share: a sandbox of its own for each, closed at its end, which must have nothing to complain of.
import assert from "node:assert/strict";
import { after, before } from "node:test";

const { FAKE_CREDITS_URL, FAKE_CREDITS_CONTROL_TOKEN } = process.env;

export async function ask(method, path, body) {
  const headers = { "X-Fake-Credits-Control": FAKE_CREDITS_CONTROL_TOKEN };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  const response = await fetch(`${FAKE_CREDITS_URL}/_fake${path}`, options);
  return { status: response.status, body: await response.json() };
}

export async function told(method, path, body) {
  const answer = await ask(method, path, body);
  assert.ok(answer.status < 300, JSON.stringify(answer.body));
  return answer.body;
}

export class Sandbox {
  async make(words) {
    Object.assign(this, await told("POST", "/sandboxes", words));
    this.path = `/sandboxes/${this.name}`;
  }

  told(method, path, body) {
    return told(method, this.path + path, body);
  }

  async call(method, path, { token, body } = {}) {
    const headers = token ? { Authorization: `Bearer ${token}` } : { "X-API-Key": this.api_key };
    if (body) headers["Content-Type"] = "application/json";
    const url = `${this.base_url}/v1/applications/${this.application_id}/users/${path}`;
    return fetch(url, { method, headers, body: body && JSON.stringify(body) });
  }

  async spend(user = "ada") {
    const body = { delta: -1, reason: "consume" };
    return (await this.call("POST", `${user}/transactions`, { body })).status;
  }

  async balance(user = "ada") {
    return (await this.told("GET", `/users/${user}`)).balance;
  }
}

export function withSandbox(words) {
  const sandbox = new Sandbox();
  before(() => sandbox.make(words));
  after(async () => {
    assert.deepEqual(await sandbox.told("GET", "/problems"), { problems: [] });
    assert.deepEqual(await sandbox.told("DELETE", ""), { problems: [], dropped: [] });
    assert.equal((await ask("GET", sandbox.path)).body.error.code, "sandbox_not_found");
  });
  return sandbox;
}
