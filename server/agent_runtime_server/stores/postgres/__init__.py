"""The truth: sessions, their event logs, frames and approvals in Postgres."""
