"""The HTTP service. It runs where only Starlette, uvicorn and the runtime of an exported file are installed."""
