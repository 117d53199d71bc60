"""What an operator sees: metrics and logs. No text of pairs, no tokens, no passwords, no ids in labels."""
