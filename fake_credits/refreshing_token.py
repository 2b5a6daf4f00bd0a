"""The token of a façade's user client, which is replaced when it is no longer valid."""

from fake_credits.sandbox import Sandbox


class RefreshingToken:
    """A user's token, replaced when the sandbox's clock is outside its lifetime, as it can be after a reset."""

    def __init__(self, sandbox: Sandbox, user_id: str) -> None:
        self._sandbox = sandbox
        self._user_id = user_id
        self._token = ""
        self._valid_from_ms = self._valid_until_ms = 0
        self._generation = -1

    def __call__(self) -> str:
        """Return a valid token."""
        sandbox = self._sandbox
        now_ms = sandbox.clock.now_ms()
        is_valid = self._valid_from_ms <= now_ms < self._valid_until_ms
        if not is_valid or self._generation != sandbox.keys.generation:
            self._token = sandbox.token(self._user_id)
            self._valid_from_ms = now_ms
            self._valid_until_ms = now_ms + sandbox.minter.provider.lifetime_s * 1000
            self._generation = sandbox.keys.generation
        return self._token
