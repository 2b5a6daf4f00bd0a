"""The control plane of the plugin's live server, and its access to the running test's sandbox."""

from fake_credits import FakeCredits
from fake_credits.client.control import ControlClient
from fake_credits.transports.live import LiveServer


def test_control_client_can_read_and_change_the_tests_sandbox(
    fake_credits: FakeCredits, fake_credits_server: LiveServer
) -> None:
    fake_credits.user("ada", balance=5)
    with ControlClient(fake_credits.base_url, fake_credits_server.control_token) as control:
        sandbox = control.sandbox(fake_credits.sandbox.name)
        assert (sandbox.api_key, sandbox.balance("ada")) == (fake_credits.api_key, 5)
        sandbox.add_fault("status", status=503, name="mine", optional=True)
    assert fake_credits.faults.find("mine").fired == 0


def test_sandbox_made_by_control_client_is_separate_from_the_tests(
    fake_credits: FakeCredits, fake_credits_server: LiveServer
) -> None:
    with ControlClient(fake_credits.base_url, fake_credits_server.control_token) as control:
        with control.make_sandbox(users={"ada": 1}) as other:
            assert fake_credits_server.sandboxes.default is fake_credits.sandbox
            assert other.balance("ada") == 1
        assert fake_credits.problems() == []
