"""The paper's figures and tables, one notebook an experiment, its measuring code beside it, and the ledger."""
