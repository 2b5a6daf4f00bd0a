"""One mistake per line for the type checkers; if a line is accepted, its unused ignore comment fails the lint."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from fake_credits import Call, Contract, FakeCredits, ServerClient
from fake_credits.faults import Latency, Reset, Rule, Status, Truncate


def make_mistakes(credits: FakeCredits, client: ServerClient) -> None:
    """Make one mistake per line."""
    FakeCredits(balence=100)  # type: ignore[call-arg]
    FakeCredits(balance="100")  # type: ignore[arg-type]
    FakeCredits(users=["ada"])  # type: ignore[arg-type]
    FakeCredits(mode="remote")  # type: ignore[arg-type]
    FakeCredits(delays="fast")  # type: ignore[arg-type]
    FakeCredits(auth_provider="auth1")  # type: ignore[arg-type]
    FakeCredits(seed="7")  # type: ignore[arg-type]
    Contract(unknown_user="ignore")  # type: ignore[arg-type]
    Contract(created_at="iso")  # type: ignore[arg-type]
    Rule(Reset(), operation="createTransactoin")  # type: ignore[arg-type]
    Rule(Reset(), phase="afterwards")  # type: ignore[arg-type]
    Rule(Reset(), nth="1")  # type: ignore[arg-type]
    Rule(Reset(), client="servr")  # type: ignore[arg-type]
    Rule(Reset(), reason="refunds")  # type: ignore[arg-type]
    Rule(Reset(), per="application")  # type: ignore[arg-type]
    Latency(p50="20")  # type: ignore[call-arg]
    Status(status="503")  # type: ignore[arg-type]
    Truncate(then="wait")  # type: ignore[arg-type]
    credits.faults.add(Reset(), "createTransactoin")  # type: ignore[arg-type]
    credits.faults.add(Reset(), phse="after")  # type: ignore[call-arg]
    credits.faults.add(Reset(), nth="1")  # type: ignore[arg-type]
    credits.faults.add(Reset(), phase="post")  # type: ignore[arg-type]
    credits.hold("createTransactoin")  # type: ignore[arg-type]
    credits.hold(usr="ada")  # type: ignore[call-arg]
    credits.token(bad="expird")  # type: ignore[arg-type]
    credits.token(expires_in=60)  # type: ignore[call-arg]
    credits.user("ada", balance="5")  # type: ignore[arg-type]
    credits.transport("requests")  # type: ignore[call-overload]
    credits.intercept(["https://credits.internal"])  # type: ignore[arg-type]
    credits.journal.assert_called("getBalanc")  # type: ignore[arg-type]
    credits.journal.assert_called("getBalance", stauts=200)  # type: ignore[call-arg]
    credits.journal.assert_called("getBalance", status="200")  # type: ignore[arg-type]
    credits.journal.assert_called("getBalance", client="admin")  # type: ignore[arg-type]
    credits.journal.entries(operation="getBalanc")  # type: ignore[arg-type]
    Call("getBalanc")  # type: ignore[arg-type]
    credits.clock.advance(5)  # type: ignore[call-arg]
    credits.clock.travel(5)  # type: ignore[arg-type]
    credits.transactions(5)  # type: ignore[arg-type]
    credits.add_transactions("ada", 5)  # type: ignore[arg-type]
    credits.add_transactions("ada", ["5"])  # type: ignore[list-item]
    credits.add_transactions("ada", [{"amount": 5}])  # type: ignore[list-item]
    client.create_transaction("app-id", "ada", 5, reason="grant")  # type: ignore[call-arg]
    client.get_balance("app-id")  # type: ignore[call-arg]
