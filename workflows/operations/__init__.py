"""Operating the shop: previews of an operator's actions, the audit, retention and the archive."""
