from fake_credits import FakeCredits

credits = FakeCredits(users={"ada": 100}, api_key="test-key")
app = credits.asgi_app()
