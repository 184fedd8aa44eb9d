"""Who may do what: logins and tokens, forms, sessions and headers, limits on attempts."""
