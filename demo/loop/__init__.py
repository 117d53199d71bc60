"""``make loop``: from pairs to a policy that did not learn what nobody wanted, in one command."""
