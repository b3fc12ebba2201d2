"""One result, many renderings; nothing is computed here."""
