"""Who a caller is: API keys, signed tokens, client certificates."""
