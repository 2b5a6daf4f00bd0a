// Shared by the test files: a separate sandbox for each, closed at the end, which must report no problems.
import assert from "node:assert/strict";
import { after, before } from "node:test";

const { FAKE_CREDITS_URL, FAKE_CREDITS_CONTROL_TOKEN } = process.env;

export async function request(method, path, body) {
  const headers = { "X-Fake-Credits-Control": FAKE_CREDITS_CONTROL_TOKEN };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  const response = await fetch(`${FAKE_CREDITS_URL}/_fake${path}`, options);
  return { status: response.status, body: await response.json() };
}

export async function requestJson(method, path, body) {
  const response = await request(method, path, body);
  assert.ok(response.status < 300, JSON.stringify(response.body));
  return response.body;
}

export class Sandbox {
  async create(options) {
    Object.assign(this, await requestJson("POST", "/sandboxes", options));
    this.path = `/sandboxes/${this.name}`;
  }

  requestJson(method, path, body) {
    return requestJson(method, this.path + path, body);
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
    return (await this.requestJson("GET", `/users/${user}`)).balance;
  }
}

export function withSandbox(options) {
  const sandbox = new Sandbox();
  before(() => sandbox.create(options));
  after(async () => {
    assert.deepEqual(await sandbox.requestJson("GET", "/problems"), { problems: [] });
    assert.deepEqual(await sandbox.requestJson("DELETE", ""), { problems: [], dropped: [] });
    assert.equal((await request("GET", sandbox.path)).body.error.code, "sandbox_not_found");
  });
  return sandbox;
}
