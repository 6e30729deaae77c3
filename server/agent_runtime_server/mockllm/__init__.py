"""A mock of an OpenAI-compatible model endpoint: a program of its own that sees nothing but the request.

It knows no language. What it says comes from a script (`script`) or, where no rule of the script matches, from
a small keyword reading of the request (`behaviour`).
"""
