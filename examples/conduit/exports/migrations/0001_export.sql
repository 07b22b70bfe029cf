create table export (
  id bigint generated always as identity primary key,
  account_id bigint not null,
  state text not null default 'running' check (state in ('running', 'done', 'failed')),
  -- Of its last run, to ask it how far it is.
  job_id bigint,
  created_at timestamptz not null default now(),
  ends_at timestamptz not null
);

-- One at a time for each account.
create unique index export_running_key on export (account_id) where state = 'running';
create index export_ends_at_idx on export (ends_at);
