"""Authentication and protection: logins and tokens, CSRF, sessions and headers, rate limits."""
