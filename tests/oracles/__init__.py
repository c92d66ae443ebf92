"""The same mathematics again, as slow and obvious loops that read like the papers: what the fast code must equal."""
