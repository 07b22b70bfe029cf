-- The job that an entry enqueues, and how its last run ended: at, outcome, durationMs, worker, error. Entries with the same job share its runs.
alter table rung.cron add column job text, add column last_run jsonb;
