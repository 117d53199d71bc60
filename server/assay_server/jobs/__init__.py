"""Work that outlives a call: uploads, imports, audits, and the operations that say how far they are."""
