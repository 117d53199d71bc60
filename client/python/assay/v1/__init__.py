"""Generated from proto/assay/v1 by `make proto`. Do not edit."""
